/**
 * Flags that set configuration keys, the same for every command that runs a node.
 */
import type { Command } from 'commander';
import { type LoadedConfig, loadConfig, parseAssignments } from '../node/config/load.ts';
import { collect } from './arguments.ts';

/** Values of the flags that {@link addConfigFlags} adds. */
export interface ConfigFlags {
  dir?: string;
  config?: string;
  listen?: string[];
  announce?: string[];
  maxPeers?: string;
  apiHost?: string;
  apiPort?: string;
  threads?: string;
  device?: string;
  backend?: string;
  precision?: string;
  memory?: string;
  logLevel?: string;
  logFormat?: string;
  set?: string[];
}

/** Adds them to a command. What they accept is checked by the configuration itself. */
export function addConfigFlags(command: Command): Command {
  return command
    .option('--dir <folder>', 'data folder of the node (default: alice-data)')
    .option('--config <file>', 'configuration file (default: alice.json in the data folder, if there is one)')
    .option('--listen <multiaddr>', 'address to accept peers on, repeatable; port 0 takes a free one', collect)
    .option('--announce <multiaddr>', 'address to tell peers instead, repeatable', collect)
    .option('--max-peers <n>', 'most connections')
    .option('--api-host <host>', 'address of the HTTP interface (default: 127.0.0.1)')
    .option('--api-port <port>', 'port of the HTTP interface; 0 takes a free one')
    .option('--threads <n>', 'threads for training and scoring; 0 takes all cores')
    .option('--device <device>', 'auto, cpu, cuda, webgpu, directml or coreml; see "alice doctor"')
    .option('--backend <backend>', 'auto, native (C++ on the CPU) or onnx (onnxruntime); see "alice doctor"')
    .option('--precision <precision>', 'of training: auto, fp32, bf16 (native backend) or fp16 (GPUs)')
    .option('--memory <size>', 'most memory for training and scoring, such as 6GiB (default: no limit)')
    .option('--log-level <level>', 'debug, info, warn, error or silent')
    .option('--log-format <format>', 'auto, json or pretty')
    .option('--set <key=value>', 'any configuration key, repeatable; see "alice config show"', collect);
}

/** Loads the configuration under these flags. Throws the typed errors of the configuration. */
export function configFromFlags(flags: ConfigFlags): LoadedConfig {
  return loadConfig({
    file: flags.config,
    env: process.env,
    flags: {
      ...parseAssignments(flags.set ?? []),
      dir: flags.dir,
      'network.listen': flags.listen,
      'network.announce': flags.announce,
      'network.maxPeers': flags.maxPeers,
      'api.host': flags.apiHost,
      'api.port': flags.apiPort,
      'engine.threads': flags.threads,
      'engine.backend': flags.backend,
      'engine.device': flags.device,
      'engine.precision': flags.precision,
      'engine.memory': flags.memory,
      'log.level': flags.logLevel,
      'log.format': flags.logFormat,
    },
  });
}
