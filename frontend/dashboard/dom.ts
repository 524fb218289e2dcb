/** The few things that all parts of the page do to it. Each touches the page only where something differs. */

/** An element that index.html is sure to have. */
export function find<E extends Element = HTMLElement>(root: ParentNode, selector: string): E {
  const element = root.querySelector<E>(selector);
  if (!element) throw new Error(`The page has no ${selector}`);
  return element;
}

/** A new element, as its template in index.html has it. */
export function clone(templateId: string): HTMLElement {
  const template = find<HTMLTemplateElement>(document, `template#${templateId}`);
  return template.content.firstElementChild!.cloneNode(true) as HTMLElement;
}

/** Everything that comes from outside gets on the page by this: as text, whatever it looks like. */
export function setText(element: Element, text: string): void {
  if (element.textContent !== text) element.textContent = text;
}

/** `null` takes the attribute away. */
export function setAttribute(element: Element, name: string, value: string | null): void {
  if (element.getAttribute(name) === value) return;
  if (value === null) element.removeAttribute(name);
  else element.setAttribute(name, value);
}

/** A bar. Its name and value are for screen readers; the stylesheet moves it by --percent. */
export function setBar(bar: HTMLElement, percent: number, label: string): void {
  setAttribute(bar, "aria-label", label);
  setAttribute(bar, "aria-valuenow", String(Math.floor(percent)));
  const fill = bar.firstElementChild as HTMLElement;
  const value = String(percent);
  if (fill.style.getPropertyValue("--percent") !== value) fill.style.setProperty("--percent", value);
}

/** Make these the children, in this order, and move as few as can be: those that stay keep what they play and show. */
export function place(parent: Element, children: readonly Element[]): void {
  const wanted = new Set(children);
  for (const child of [...parent.children]) if (!wanted.has(child)) child.remove();
  let next = parent.firstElementChild;
  for (const child of children) {
    if (child === next) next = next.nextElementSibling;
    else parent.insertBefore(child, next);
  }
}

/** Moving an element takes the focus from what is inside of it: give it back to what had it before. */
export function keepFocus(focused: Element | null): void {
  const isLost = focused !== document.activeElement && focused?.isConnected;
  if (isLost && focused instanceof HTMLElement) focused.focus({ preventScroll: true });
}

/** Hide or show; where what is hidden had the focus, it goes to `heir`, so that a keyboard stays where it was. */
export function setHidden(element: HTMLElement, isHidden: boolean, heir?: HTMLElement): void {
  if (element.hidden === isHidden) return;
  const hadFocus = isHidden && element.contains(document.activeElement);
  element.hidden = isHidden;
  if (hadFocus) heir?.focus({ preventScroll: true });
}
