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

  /** Throws OtherCorpusError, what reading the corpus throws, and what the node throws. */
  async start(): Promise<void> {
    const options = this.#options;
    const { genesis } = options.networkFile;
    const node = await AliceNode.start({ ...options, role: 'bootstrap' });
    this.#node = node;
    if (options.corpusFolder === undefined) return;
    const components = { store: node.blobStore, announcer: node.announcer };
    const { signal } = this.#stop;
    await seedCorpus(options.corpusFolder, components, { expected: genesis.corpus.manifest, signal });
  }

  async stop(): Promise<void> {
    this.#stop.abort();
    await this.#node?.stop();
  }
}
