/** The page at `/` of a replica. Connections, retries and the state of jobs come from the client core. */

import { createProgressClient } from "../src/core.js";
import { Address, isProjectId, title } from "./address.js";
import { Announcer } from "./announcer.js";
import { find, place } from "./dom.js";
import { Panel, type PanelOwner } from "./panel.js";
import { Replica } from "./replica.js";
import { SignIn } from "./sign-in.js";

const TICK_MS = 1_000;

/** The gateway's URL, beside this page's: a proxy may serve both below a path of its own. */
const gatewayUrl = (): string => new URL("ws", location.href).href.replace("http", "ws"); // "https" becomes "wss"

/** All projects of the page, on one connection. Lives as long as the page. */
class Page implements PanelOwner {
  #signIn = new SignIn();
  readonly client = createProgressClient({ url: gatewayUrl, ...this.#signIn.options });
  readonly announcer = new Announcer(find(document, "#announcer"));
  /** The panels by project, in the order on the page. */
  #panels = new Map<string, Panel>();
  #list = find(document, "#projects");
  #input = find<HTMLInputElement>(document, "#project");
  #address = new Address((projects) => this.#show(projects));

  start(): void {
    this.#signIn.start(this.client);
    const form = find<HTMLFormElement>(document, "#pick");
    form.addEventListener("submit", (event) => {
      event.preventDefault();
      this.#add(this.#input.value.trim());
    });
    this.#input.addEventListener("keydown", ({ key }) => {
      if (key === "Escape") this.#input.value = "";
    });
    setInterval(() => {
      if (!document.hidden) for (const panel of this.#panels.values()) panel.tick();
    }, TICK_MS);
    const replica = new Replica(find(document, "#replica"), find(document, "#replica-text"));
    replica.poll();
    this.client.subscribe(() => replica.poll()); // the number of clients changed, or the page is on another replica
    this.#show(this.#address.projects);
  }

  onCount(): void {
    const running = [...this.#panels.values()].reduce((sum, panel) => sum + panel.running, 0);
    const text = title([...this.#panels.keys()], running);
    if (document.title !== text) document.title = text;
  }

  onRemove(project: string): void {
    const projects = [...this.#panels.keys()];
    const index = projects.indexOf(project);
    const heir = projects[index + 1] ?? projects[index - 1];
    this.#address.remove(project);
    if (heir !== undefined) this.#panels.get(heir)?.focus();
  }

  #add(project: string): void {
    if (!isProjectId(project)) return; // the form has shown the error
    this.#address.add(project);
    this.#input.value = "";
    this.#panels.get(project)?.focus();
  }

  #show(projects: readonly string[]): void {
    const before = this.#panels;
    // New projects subscribe before old ones leave: with no project at all, the client would disconnect.
    this.#panels = new Map(projects.map((project) => [project, before.get(project) ?? new Panel(project, this)]));
    for (const [project, panel] of before) if (!this.#panels.has(project)) panel.close();
    const panels = [...this.#panels.values()];
    place(
      this.#list,
      panels.map(({ element }) => element),
    );
    for (const panel of panels) panel.isRemovable = panels.length > 1;
    this.onCount();
  }
}

new Page().start();
