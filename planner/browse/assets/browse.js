// What the browser does by itself: the theme, the brush over both pictures, and the address.
"use strict";

(function () {
  const dark = window.matchMedia("(prefers-color-scheme: dark)");
  let choice = "auto";

  function shownTheme() {
    const name = choice === "auto" ? (dark.matches ? "dark" : "light") : choice;
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

  // the ids of the plans inside a box or a lasso; every point carries [run, plan]
  function plansInside(selected) {
    const points = selected.points.filter((point) => point.customdata);
    return [...new Set(points.map((point) => point.customdata[1]))];
  }

  function marked(figure, plans) {
    const inside = plans && new Set(plans);
    const data = figure.data.map(function (trace) {
      if (!trace.customdata) return trace;
      const places = [];
      if (inside) {
        trace.customdata.forEach((point, place) => {
          if (inside.has(point[1])) places.push(place);
        });
      }
      return { ...trace, selectedpoints: inside ? places : null };
    });
    const layout = inside ? figure.layout : { ...figure.layout, selections: [] };
    return { ...figure, data, layout };
  }

  window.dash_clientside = window.dash_clientside || {};
  window.dash_clientside.browse = {
    theme: function (chosen) {
      choice = chosen || "auto";
      return shownTheme();
    },

    brush: function (front, other, _clicks, known) {
      const same = window.dash_clientside.no_update;
      const source = window.dash_clientside.callback_context.triggered_id;
      const selected = { front, other }[source];
      if (source !== "clear-brush" && !selected) return [same, same, same];
      const isBrush = selected && (selected.range || selected.lassoPoints);
      if (source !== "clear-brush" && !isBrush) return [same, same, same];
      if (source === "clear-brush") return [null, "", true];
      const plans = plansInside(selected);
      if (known && known.source === source && known.plans.join() === plans.join()) {
        return [same, same, same];
      }
      const note = `${plans.length.toLocaleString("en")} plans inside the outline`;
      return [{ source, plans }, note, false];
    },

    // the picture that was brushed marks its own points
    mark: function (brush, front, other) {
      const same = window.dash_clientside.no_update;
      const plans = brush && brush.plans;
      return [
        brush && brush.source === "front" ? same : marked(front, plans),
        brush && brush.source === "other" ? same : marked(other, plans),
      ];
    },

    look: function () {
      document.getElementById("plan").scrollIntoView({ behavior: "smooth" });
      return window.dash_clientside.no_update;
    },

    address: function (runs, budget, selection, x, y, colour, otherX, otherY) {
      const given = new URLSearchParams();
      (runs || []).forEach((run) => given.append("run", run));
      if (budget !== null && budget !== undefined) given.set("budget", budget);
      (selection || []).forEach((plan) => given.append("plan", plan[1]));
      const axes = { x, y, colour, "other-x": otherX, "other-y": otherY };
      Object.entries(axes).forEach(([name, axis]) => axis && given.set(name, axis));
      window.history.replaceState(window.history.state, "", `?${given}`);
      return window.dash_clientside.no_update;
    },
  };
})();
