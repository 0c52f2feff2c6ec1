/* grafana -- Grafana's own types of a dashboard (npm @grafana/schema); the test appends deploy/grafana/ebb.json, each panel
 * under the type of its plugin, and lets tsc look for what is missing, unknown or of another kind. */
import type { AnnotationQuery, Dashboard, FieldConfig, FieldConfigSource, Panel, RowPanel } from "@grafana/schema";
import type * as Heatmap from "@grafana/schema/dist/esm/raw/composable/heatmap/panelcfg/x/HeatmapPanelCfg_types.gen";
import type * as Stat from "@grafana/schema/dist/esm/raw/composable/stat/panelcfg/x/StatPanelCfg_types.gen";
import type * as TimeSeries from "@grafana/schema/dist/esm/raw/composable/timeseries/panelcfg/x/TimeSeriesPanelCfg_types.gen";

/* As it stands in JSON: the words of an enum are words. */
type Plain<T> = T extends string ? `${T}`
  : T extends number | boolean | null | undefined ? T
  : T extends Array<infer U> ? Array<Plain<U>>
  : T extends object ? { [K in keyof T]: Plain<T[K]> } : T;

type Of<Options, Custom> = Omit<Plain<Panel>, "options" | "fieldConfig"> & {
  options: Plain<Partial<Options>>;
  fieldConfig: {
    overrides: Plain<FieldConfigSource["overrides"]>;
    defaults: Omit<Plain<FieldConfig>, "custom"> & { custom?: Plain<Partial<Custom>> };
  };
};

type Panels = {
  row: Plain<RowPanel>;
  stat: Of<Stat.Options, {}>;
  timeseries: Of<TimeSeries.Options, TimeSeries.FieldConfig>;
  heatmap: Of<Heatmap.Options, Heatmap.FieldConfig>;
};

/* An annotation has what the plugin of its source asks for besides. */
type FromPrometheus = Plain<AnnotationQuery> & { expr: string; titleFormat: string; step: string };
type Board = Omit<Plain<Dashboard>, "panels" | "annotations"> & { annotations: { list: FromPrometheus[] } };
