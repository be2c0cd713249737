/** What a piece of code has made and must give back: all at once, the last first, also when it fails half-way. */

export interface Disposable {
  dispose(): void;
}

export interface Owner {
  /** Takes charge of a thing and gives it back. */
  readonly own: <T extends Disposable>(thing: T) => T;
  /** Disposes everything, the last first. */
  dispose(): void;
}

export function createOwner(): Owner {
  const owned: Disposable[] = [];
  return {
    own: (thing) => {
      owned.push(thing);
      return thing;
    },
    dispose() {
      for (const thing of owned.splice(0).reverse()) thing.dispose();
    },
  };
}

/** Runs `make` with an owner; if it fails, what it had made by then is disposed. */
export async function ownedBy<T>(make: (owner: Owner) => Promise<T>): Promise<T> {
  const owner = createOwner();
  try {
    return await make(owner);
  } catch (error) {
    owner.dispose();
    throw error;
  }
}
