/**
 * The bootstrap role: the peer whose address newcomers are given. It follows the chain, and seeds a corpus if it has one.
 */
import { AliceNode, type NodeOptions } from '../node/node.ts';
import { seedCorpus } from './corpus-seeder.ts';

export interface BootstrapRoleOptions extends NodeOptions {
  /** Folder of shards to serve. */
  readonly corpusFolder: string | undefined;
}

export class BootstrapRole {
  readonly #options: BootstrapRoleOptions;
  readonly #stop = new AbortController();
  #node: AliceNode | undefined;

  constructor(options: BootstrapRoleOptions) {
    this.#options = options;
  }

  get node() {
    return this.#node;
  }

  /** Throws OtherCorpusError, what reading the corpus throws, what the node throws, and the signal's reason. */
  async start(options: { readonly signal?: AbortSignal } = {}): Promise<void> {
    const { corpusFolder, networkFile } = this.#options;
    const node = await AliceNode.start({ ...this.#options, role: 'bootstrap' });
    this.#node = node;
    if (corpusFolder === undefined) return;
    const components = { store: node.blobStore, announcer: node.announcer };
    const signal = AbortSignal.any([this.#stop.signal, ...(options.signal === undefined ? [] : [options.signal])]);
    await seedCorpus(corpusFolder, components, { expected: networkFile.genesis.corpus.manifest, signal });
  }

  async stop(): Promise<void> {
    this.#stop.abort();
    await this.#node?.stop();
  }
}
