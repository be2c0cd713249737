/** The live pages: a list of runs, one run, several side by side. */
import { render } from "preact";
import { useEffect } from "preact/hooks";
import { ComparePage } from "./compare-page.tsx";
import { route } from "./route.ts";
import { RunList } from "./run-list.tsx";
import { RunPage } from "./run-page.tsx";
import { applySettings, language, setLanguage, setTheme, type Theme, t, theme } from "./settings.ts";
import { useSignal } from "./signal.ts";
import "./style.css";
import "./tables.css";
import "./charts.css";
import "./sections.css";

function App() {
  const locale = useSignal(language);
  const mode = useSignal(theme);
  const { page, id } = useSignal(route);
  useEffect(() => {
    document.title = `${t("title")} · CPM-Live`;
  }, [locale]);
  return (
    <>
      <header class="top">
        <a href="#/" class="brand">
          {t("title")}
        </a>
        <span class="spacer" />
        <select aria-label={t("theme")} value={mode} onChange={(event) => setTheme(event.currentTarget.value as Theme)}>
          <option value="auto">{t("auto")}</option>
          <option value="light">{t("light")}</option>
          <option value="dark">{t("dark")}</option>
        </select>
        <button
          type="button"
          class="language"
          lang={locale === "zh" ? "en" : "zh-Hans"}
          onClick={() => setLanguage(locale === "zh" ? "en" : "zh")}
        >
          {t("language")}
        </button>
      </header>
      {page === "run" ? <RunPage key={id} id={id} /> : page === "compare" ? <ComparePage /> : <RunList />}
      <footer>{t("madeWith")}</footer>
    </>
  );
}

applySettings();
render(<App />, document.getElementById("app")!);
