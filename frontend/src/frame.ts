const HIDDEN_MS = 100;

/** Call once at the next frame; soon by a timer where there are no frames: in a hidden tab, or without a page. */
export function onNextFrame(callback: () => void): void {
  let frame: number | undefined;
  let timer: ReturnType<typeof setTimeout> | undefined;
  const once = (): void => {
    clearTimeout(timer);
    globalThis.cancelAnimationFrame?.(frame!); // those of a hidden tab would pile up
    callback();
  };
  timer = setTimeout(once, HIDDEN_MS);
  frame = globalThis.requestAnimationFrame?.(once);
}
