const HIDDEN_MS = 100;

/** Call once at the next frame; soon by a timer where there are no frames: in a hidden tab, or without a page. */
export function onNextFrame(callback: () => void): void {
  let isDone = false;
  const once = (): void => {
    if (!isDone) callback();
    isDone = true;
  };
  globalThis.requestAnimationFrame?.(once);
  setTimeout(once, HIDDEN_MS);
}
