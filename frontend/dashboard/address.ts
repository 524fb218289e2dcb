/** The page's address. It names the projects, so a link opens them and the browser's back button works. */

import { PROJECT_ID } from "../src/client.js";

const DEFAULT_PROJECT = "demo";

export const isProjectId = (text: string): boolean => PROJECT_ID.test(text);

/** The projects in a query, each once. A bad id is kept, so that the page can show the error. */
export function readProjects(search: string): string[] {
  const named = new URLSearchParams(search).getAll("project").map((name) => name.trim());
  const projects = [...new Set(named.filter((name) => name !== ""))];
  return projects.length ? projects : [DEFAULT_PROJECT];
}

/** The query for these projects. */
export function writeProjects(projects: readonly string[]): string {
  return `?${new URLSearchParams(projects.map((project) => ["project", project]))}`;
}

/** "(5) a, b · Progress Gateway". The number of running jobs comes first: a tab has little room. */
export function title(projects: readonly string[], running: number): string {
  return `${running ? `(${running}) ` : ""}${projects.join(", ")} · Progress Gateway`;
}

/** The address of this window. Lives as long as the page. */
export class Address {
  /** The projects that the address names now. */
  #projects = readProjects(location.search);
  /** Called with the projects after each change, from here or by the browser's buttons. */
  #onChange: (projects: readonly string[]) => void;

  constructor(onChange: (projects: readonly string[]) => void) {
    this.#onChange = onChange;
    addEventListener("popstate", () => this.#read());
  }

  /** The projects, in the order on the page. */
  get projects(): readonly string[] {
    return this.#projects;
  }

  /** Add a project at the end. Returns false if the address named it already. */
  add(project: string): boolean {
    if (this.#projects.includes(project)) return false;
    this.#go([...this.#projects, project]);
    return true;
  }

  remove(project: string): void {
    this.#go(this.#projects.filter((other) => other !== project));
  }

  #go(projects: readonly string[]): void {
    history.pushState(null, "", writeProjects(projects));
    this.#read();
  }

  #read(): void {
    this.#projects = readProjects(location.search);
    this.#onChange(this.#projects);
  }
}
