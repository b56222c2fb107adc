/** The shell: the view of the route, the navigation, the theme and the key. */

import { html, render, useCallback, useEffect, useLayoutEffect, useRef, useState } from "./vendor/htm/standalone.module.js";
import { get, onKeyNeeded } from "./api.js";
import { KeyButton, KeyDialog } from "./key.js";
import { ROUTES, findRoute } from "./routes.js";
import { holdStyles, loadStyles } from "./styles.js";
import { ThemeSwitch } from "./theme_switch.js";
import { Empty, ErrorBox, Loading, useLoaded } from "./ui.js";

const SESSION = "/gsi/v1/session";

/** The route that the address names. Moving to another view puts the focus there, as loading a page would. */
function useRoute() {
  const [route, setRoute] = useState(() => findRoute(location.hash));
  useEffect(() => {
    const follow = () => setRoute(findRoute(location.hash));
    addEventListener("hashchange", follow);
    return () => removeEventListener("hashchange", follow);
  }, []);
  return route;
}

function useView(route) {
  const [views, setViews] = useState({});
  const [error, setError] = useState(null);
  const name = route?.name;
  const open = useCallback(() => {
    if (!route) return;
    setError(null);
    Promise.all([route.load(), loadStyles(route.styles)]).then(
      ([module]) => setViews((before) => ({ ...before, [name]: module.default })),
      () => setError({ message: "This part of the page could not be loaded." }),
    );
  }, [name]);
  useEffect(open, [open]);
  useLayoutEffect(() => views[name] && holdStyles(route.styles), [name, views[name]]);
  return { View: views[name], error, open };
}

function Navigation({ route, hasEvaluations }) {
  const current = route?.path ?? "";
  return html`<nav aria-label="Views">
    ${ROUTES.filter((each) => each.label && (hasEvaluations || each.name !== "evaluations")).map((each) => {
      const target = each.pattern.source.replaceAll("\\", "").replace(/^\^|\$$/g, "");
      const isCurrent = target === "/" ? current === "/" : current.startsWith(target);
      return html`<a key=${each.name} href=${`#${target}`} aria-current=${isCurrent ? "page" : undefined}>${each.label}</a>`;
    })}
  </nav>`;
}

function Mark() {
  return html`<svg class="mark" viewBox="0 0 20 16" aria-hidden="true">
    <rect class="mark-draft" x="0" y="0" width="14" height="4" rx="2" />
    <rect class="mark-target" x="0" y="6" width="20" height="4" rx="2" />
    <rect class="mark-draft" x="0" y="12" width="10" height="4" rx="2" />
  </svg>`;
}

function Main({ route, session }) {
  const { View, error, open } = useView(route);
  const main = useRef(null);
  const isFirst = useRef(true);
  useEffect(() => {
    const named = ROUTES.find((each) => each.name === route?.name);
    document.title = named ? `${named.label ?? named.title} · GSI` : "GSI";
    if (!isFirst.current) main.current?.focus({ preventScroll: true });
    isFirst.current = false;
  }, [route?.name]);
  return html`<main id="main" tabindex="-1" ref=${main}>${content()}</main>`;

  function content() {
    if (!route) return html`<${Empty} title="There is no such view"><a href="#/">To the playground</a><//>`;
    if (error) return html`<${ErrorBox} error=${error} onRetry=${open} />`;
    if (session.error?.status === 401) return html`<${Empty} title="A key is needed">The gateway answers those who have one.<//>`;
    if (session.error && !session.value) return html`<${ErrorBox} error=${session.error} onRetry=${session.reload} />`;
    if (!View || !session.value) return html`<${Loading} />`;
    return html`<${View} route=${route} session=${session.value} />`;
  }
}

function App() {
  const route = useRoute();
  const session = useLoaded((signal) => get(SESSION, {}, signal), []);
  const [isAsking, setAsking] = useState(false);
  useEffect(() => onKeyNeeded(lock), []);
  useEffect(() => session.value && !session.error && setAsking(false), [session.value, session.error]);
  return html`
    <a class="skip" href="#main" onClick=${skip}>Skip to the content</a>
    <header class="top">
      <a class="brand" href="#/" aria-label="GSI, playground"><${Mark} /><span>GSI</span></a>
      <${Navigation} route=${route} hasEvaluations=${session.value?.has_evaluations !== false} />
      <div class="top-tools">
        <${ThemeSwitch} />
        ${session.value?.needs_key !== false && html`<${KeyButton} onClick=${() => setAsking(true)} />`}
      </div>
    </header>
    <${Main} route=${route} session=${session} />
    <footer class="foot">${session.value && !session.error && html`<span>GSI ${session.value.version}</span><span>tenant <bdi>${session.value.tenant}</bdi></span>`}</footer>
    <${KeyDialog} isOpen=${isAsking} refusal=${session.error?.status === 401 ? session.error : null} onClose=${() => setAsking(false)} onKey=${session.reload} />
  `;

  /** A view whose key is refused shows nothing more: the session, which is asked again, is refused as well. */
  function lock(path) {
    setAsking(true);
    if (path !== SESSION) session.reload();
  }
}

/** The address holds the route, so the skip link moves the focus itself. */
function skip(event) {
  event.preventDefault();
  document.getElementById("main").focus();
}

const place = document.getElementById("app");
place.replaceChildren();
render(html`<${App} />`, place);
