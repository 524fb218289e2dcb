/** What happens to the page and its machine: network changes, hidden tabs, sleep. */

const TYPES = ["online", "offline", "pageshow", "visibilitychange"];
const TICK_MS = 1_000;
const JUMP_MS = 5_000; // a tick that is off by this much: the machine slept, or the tab was frozen
const WAKE_MS = 1_000; // the shortest time between two wakes; one return to a page can fire several events

export interface PageOwner {
  /** The machine lost its network. */
  onOffline(): void;
  /** The page may have slept, or its network may have changed: connections that look open may be dead. */
  probe(): void;
  /** Called every second. `hasSlept`: the clock jumped since the last call. */
  onTick(hasSlept: boolean): void;
}

/** Tell `owner` what happens, until the returned function is called. */
export function watchPage(owner: PageOwner): () => void {
  let tickedAt = Date.now();
  let wokenAt = 0;
  let isWakeDue = false; // a wake came too soon after another one; the next tick makes up for it

  const wake = (): void => {
    const now = Date.now();
    isWakeDue = Math.abs(now - wokenAt) < WAKE_MS;
    if (isWakeDue) return;
    wokenAt = now;
    owner.probe();
  };
  const onEvent = ({ type }: Event): void => {
    if (type === "offline") owner.onOffline();
    else if (!globalThis.document?.hidden || type === "online") wake();
  };
  const onTick = (): void => {
    const passed = Date.now() - tickedAt;
    tickedAt += passed;
    const hasSlept = passed < 0 || passed > JUMP_MS;
    if (hasSlept || isWakeDue) wake();
    owner.onTick(hasSlept);
  };

  for (const type of TYPES) globalThis.addEventListener?.(type, onEvent);
  const interval = setInterval(onTick, TICK_MS);
  return () => {
    for (const type of TYPES) globalThis.removeEventListener?.(type, onEvent);
    clearInterval(interval);
  };
}
