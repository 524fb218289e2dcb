const HIDDEN_MS = 100;

/** Call once at the next frame; soon by a timer where there are no frames: in a hidden tab, or without a page. */
export function onNextFrame(callback: () => void): void {
  const once = (): void => {
    clearTimeout(timer);
    globalThis.cancelAnimationFrame?.(frame);
    callback();
  };
  const frame = globalThis.requestAnimationFrame?.(once);
  const timer = setTimeout(once, HIDDEN_MS);
}
