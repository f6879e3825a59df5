// What the browser does by itself: the theme, the brush over both pictures, and the address.
"use strict";

(function () {
  const dark = window.matchMedia("(prefers-color-scheme: dark)");
  const kept = document.cookie.match(/\bbrowse-theme=(auto|light|dark)-/);
  let choice = kept ? kept[1] : "auto";

  function shownTheme() {
    const name = choice === "auto" ? (dark.matches ? "dark" : "light") : choice;
    // so that the server draws the first picture in it
    document.cookie = `browse-theme=${choice}-${name}; path=/; max-age=31536000; samesite=strict`;
    document.documentElement.dataset.theme = name;
    document.documentElement.dataset.agThemeMode = name;
    return name;
  }

  shownTheme(); // before anything is drawn
  dark.addEventListener("change", function () {
    if (choice === "auto" && window.dash_clientside.set_props) {
      window.dash_clientside.set_props("theme-now", { data: shownTheme() });
    }
  });

  // the corners of a box or a lasso
  function outline(selected) {
    if (selected.lassoPoints) return [selected.lassoPoints.x, selected.lassoPoints.y];
    const [left, right] = selected.range.x;
    const [low, high] = selected.range.y;
    return [
      [left, right, right, left],
      [low, low, high, high],
    ];
  }

  // Dash (4.4.1) brings a slow trim, which Plotly asks for each point that it draws
  const trim = String.prototype.trim;
  const isPlain = (code) => code > 32 && code < 127;
  String.prototype.trim = function () {
    const text = String(this);
    const ends = [text.charCodeAt(0), text.charCodeAt(text.length - 1)];
    return ends.every(isPlain) ? text : trim.call(this);
  };

  // Dash (4.4.1) sets the caret again a moment after each key, to where it was then: letters of
  // who types fast would land in the wrong order
  document.addEventListener("focusin", function (event) {
    if (event.target.matches(".dash-input-element")) event.target.setSelectionRange = () => {};
  });

  // Dash asks for the page without saying what its address asks for
  const fetch = window.fetch;
  window.fetch = function (what, ...rest) {
    const isPage = typeof what === "string" && what.endsWith("/_dash-layout");
    return fetch.call(window, isPage ? what + window.location.search : what, ...rest);
  };

  // all else that is drawn waits until the first picture is on the screen
  function awaitPicture() {
    const plot = document.querySelector("#front .js-plotly-plot");
    if (!plot || !plot.calcdata) return setTimeout(awaitPicture, 30);
    const tell = () => window.dash_clientside.set_props("front-seen", { data: true });
    return requestAnimationFrame(() => setTimeout(tell));
  }

  awaitPicture();

  window.dash_clientside = window.dash_clientside || {};
  window.dash_clientside.browse = {
    theme: function (chosen, known) {
      choice = chosen || "auto";
      const name = shownTheme();
      return name === known ? window.dash_clientside.no_update : name;
    },

    brush: function (front, other, _clicks, splits, x, y, otherX, otherY, known) {
      const same = window.dash_clientside.no_update;
      const source = window.dash_clientside.callback_context.triggered_id;
      if (source === "clear-brush") return null;
      const selected = { front, other }[source];
      if (!selected) return known && known.source === source ? null : same;
      if (!selected.range && !selected.lassoPoints) return same;
      const [xs, ys] = outline(selected);
      const axes = source === "front" ? { x, y } : { x: otherX, y: otherY };
      const brush = { source, ...axes, splits: splits || [], xs, ys };
      return JSON.stringify(brush) === JSON.stringify(known) ? same : brush;
    },

    refill: function (_runs, _shown, _brush, asked) {
      // one that has asked for nothing yet is not there, and asks by itself
      if (asked) window.dash_ag_grid.getApi("plans").refreshInfiniteCache();
      return window.dash_clientside.no_update;
    },

    look: function () {
      document.getElementById("plan").scrollIntoView({ behavior: "smooth" });
      return window.dash_clientside.no_update;
    },

    address: function (runs, budget, selection, _seen, x, y, colour, otherX, otherY) {
      const given = new URLSearchParams();
      (runs || []).forEach((run) => given.append("run", run));
      if (budget !== null && budget !== undefined) given.set("budget", budget);
      const plan = ([run, id]) => (run === (runs || [])[0] ? id : `${id}@${run}`);
      (selection || []).forEach((chosen) => given.append("plan", plan(chosen)));
      const axes = { x, y, colour, "other-x": otherX, "other-y": otherY };
      Object.entries(axes).forEach(([name, axis]) => axis && given.set(name, axis));
      window.history.replaceState(window.history.state, "", `?${given}`);
      return window.dash_clientside.no_update;
    },
  };
})();
