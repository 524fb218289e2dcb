const FALLBACK_MS = 100;

/** Call `callback` once, at the next animation frame; after 100 ms where there are no frames (hidden tab, Node). */
export function onNextFrame(callback: () => void): void {
  let frame: number | undefined;
  let timer: ReturnType<typeof setTimeout> | undefined;
  const once = (): void => {
    clearTimeout(timer);
    globalThis.cancelAnimationFrame?.(frame!); // a hidden tab never runs its frames, so they would pile up
    callback();
  };
  timer = setTimeout(once, FALLBACK_MS);
  frame = globalThis.requestAnimationFrame?.(once);
}
