// What the browser keeps for the page; a reader who forbids that gets the same page without a memory.

/** Memory of a name: for the tab, or for good. */
export function memory(name, { forGood = false } = {}) {
  let kept = null;
  const store = () => (forGood ? localStorage : sessionStorage);
  return {
    get() {
      try {
        return store().getItem(name);
      } catch {
        return kept;
      }
    },
    set(value) {
      kept = value;
      try {
        store().setItem(name, value);
      } catch {
        // kept until the page is left
      }
    },
  };
}
