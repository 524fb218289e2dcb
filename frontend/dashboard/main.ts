/** The page at `/` of a replica. It has no connection, retry or reduction of its own: those are the client core's. */

import { createProgressClient } from "../src/core.js";
import { Address, isProjectId, title } from "./address.js";
import { Announcer } from "./announcer.js";
import { find, place } from "./dom.js";
import { Panel, type Surroundings } from "./panel.js";
import { Replica } from "./replica.js";

const TICK_MS = 1_000;

/** All projects of the page, on one connection. */
class Page implements Surroundings {
  readonly client = createProgressClient();
  readonly announcer = new Announcer(find(document, "#announcer"));
  #panels = new Map<string, Panel>();
  #list = find(document, "#projects");
  #input = find<HTMLInputElement>(document, "#project");
  #address = new Address((projects) => this.#show(projects));

  start(): void {
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
    replica.watch();
    this.client.subscribe(() => replica.watch()); // this page is one client more, or its replica may be gone
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
    if (!isProjectId(project)) return; // the form has said so
    this.#address.add(project);
    this.#input.value = "";
    this.#panels.get(project)?.focus();
  }

  #show(projects: readonly string[]): void {
    const before = this.#panels;
    // Those that stay keep their jobs. The new ones subscribe before the old ones leave, so that the connection stays.
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
