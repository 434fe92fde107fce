/** Why a device does not work, and what to do about it, in words for its owner. */
import { existsSync } from 'node:fs';
import { createRequire } from 'node:module';
import { dirname, join } from 'node:path';
import { type Device, systemsOf, thisSystem } from './device.ts';

/** Why a device cannot be used. */
export interface Trouble {
  /** A few words on one line. */
  readonly reason: string;
  /** What its owner can do; empty where nothing helps. */
  readonly remedy: string;
}

/** Files of the CUDA provider; onnxruntime looks for them beside its own library. */
const CUDA_FILES = ['libonnxruntime_providers_cuda.so', 'libonnxruntime_providers_shared.so'];

/** Libraries that those load, by their names on Linux; the dynamic linker looks them up as any other. */
const CUDA_LIBRARIES =
  'libcudart.so.12, libcublas.so.12, libcublasLt.so.12, libcufft.so.11, libcurand.so.10 (CUDA 12), libcudnn.so.9 (cuDNN 9)';

const CUDA_REMEDY = `fetch NVIDIA's provider with "ONNXRUNTIME_NODE_INSTALL=cuda12 node node_modules/onnxruntime-node/script/install.js" (several hundred MB); it then looks up ${CUDA_LIBRARIES} and libcuda.so.1 of the driver: put their folders into LD_LIBRARY_PATH or /etc/ld.so.conf.d`;

/** Folder of onnxruntime's native library. */
function bindingFolder(): string {
  const entry = createRequire(import.meta.url).resolve('onnxruntime-node');
  return join(dirname(entry), '..', 'bin', 'napi-v6', process.platform, process.arch);
}

/** What rules a device out before anything is loaded; undefined when it is worth a try. */
export function troubleBeforehand(device: Device): Trouble | undefined {
  if (!systemsOf(device).includes(thisSystem))
    return { reason: `onnxruntime has none for ${thisSystem} (only ${systemsOf(device).join(', ')})`, remedy: '' };
  if (device !== 'cuda') return undefined;
  const missing = CUDA_FILES.find((file) => !existsSync(join(bindingFolder(), file)));
  return missing === undefined
    ? undefined
    : { reason: `its provider is not installed (${missing})`, remedy: CUDA_REMEDY };
}

/** How many characters of a native error are shown. */
const SHOWN_CHARACTERS = 160;

/** The telling part of a native error: without source positions and status wrappers, on one line. */
function shortened(message: string): string {
  const telling = message
    .replaceAll(/\s+/g, ' ')
    .replace(/^.*(?:was false\.|Status Message:|error:)\s*/, '')
    .trim();
  return telling.length > SHOWN_CHARACTERS ? `${telling.slice(0, SHOWN_CHARACTERS)}...` : telling;
}

/**
 * Explains a failed probe.
 *
 * @param failure - the error, or how the process ended
 * @param output - what native code printed
 */
export function explainFailure(device: Device, failure: string, output: string): Trouble {
  const everything = `${output}\n${failure}`;
  if (device === 'webgpu' && /libvulkan\.so/.test(everything))
    return {
      reason: 'no Vulkan loader (libvulkan.so.1)',
      remedy:
        'install it and the driver of your GPU (Debian: apt install libvulkan1 mesa-vulkan-drivers; NVIDIA: its own driver)',
    };
  if (device === 'webgpu' && /No supported adapters/.test(everything))
    return {
      reason: 'no GPU that Vulkan, Direct3D 12 or Metal offers is good enough',
      remedy: 'install or update the driver of your GPU ("vulkaninfo --summary" lists what there is on Linux)',
    };
  const library = /\b(lib[\w.+-]+\.so(?:\.\d+)*): cannot open shared object file/.exec(everything)?.[1];
  if (library !== undefined)
    return { reason: `${library} is missing`, remedy: device === 'cuda' ? CUDA_REMEDY : `install ${library}` };
  const remedy =
    device === 'cuda' ? 'check the driver with "nvidia-smi"; CUDA 12 and cuDNN 9 are needed' : 'update its driver';
  return { reason: shortened(failure), remedy };
}
