/** Ending a program whose parts may never be done. */

/** True when `stop` was done within the time; false when it was not, and goes on by itself. Throws what `stop` throws. */
export async function stopsWithin(stop: () => Promise<void>, limitMs: number): Promise<boolean> {
  const stopped = stop().then(() => true);
  // It may fail later, when nobody waits for it any more.
  stopped.catch(() => {});
  let timer: NodeJS.Timeout | undefined;
  const late = new Promise<boolean>((resolve) => {
    timer = setTimeout(() => resolve(false), limitMs);
  });
  try {
    return await Promise.race([stopped, late]);
  } finally {
    clearTimeout(timer);
  }
}
