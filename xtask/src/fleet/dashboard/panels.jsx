// Panels by Grafana's components. What its panel plugins add to them (the defaults, how a stat is
// put together) is in no package, and is written down here as Grafana 11.6 has it.
import {
  applyFieldOverrides,
  FieldConfigOptionsRegistry,
  FieldType,
  getFieldDisplayValues,
  standardTransformers,
  standardTransformersRegistry,
  transformDataFrame,
} from "@grafana/data";
import { BigValue, Table, TimeSeries, VizRepeater } from "@grafana/ui";
import { lastValueFrom } from "rxjs";

// Some stand there under two names.
const transformers = Object.values(standardTransformers).map((one) => [one.id, one]);
standardTransformersRegistry.setInit(() =>
  [...new Map(transformers)].map(([id, transformation]) => ({
    id,
    name: transformation.name,
    transformation,
  })),
);

const asIs = (text) => text;

// What a panel's field may be given; each is taken as it is written.
const STANDARD = [
  "unit", "min", "max", "decimals", "displayName", "color", "noValue", "thresholds", "mappings",
  "links", "description", "filterable", "fieldMinMax",
];
const CUSTOM = [
  "drawStyle", "lineInterpolation", "lineWidth", "lineStyle", "fillOpacity", "gradientMode",
  "showPoints", "pointSize", "spanNulls", "stacking", "thresholdsStyle", "axisPlacement",
  "axisLabel", "axisSoftMin", "axisSoftMax", "axisBorderShow", "axisColorMode",
  "scaleDistribution", "hideFrom", "barAlignment", "align", "cellOptions", "width", "inspect",
];
const option = (isCustom) => (name) => ({
  id: isCustom ? `custom.${name}` : name,
  path: name,
  name,
  isCustom,
  process: asIs,
  shouldApply: () => true,
});
const registry = new FieldConfigOptionsRegistry(() => [
  ...STANDARD.map(option(false)),
  ...CUSTOM.map(option(true)),
]);

const THRESHOLDS = {
  mode: "absolute",
  steps: [
    { value: -Infinity, color: "green" },
    { value: 80, color: "red" },
  ],
};
const DEFAULTS = {
  timeseries: {
    field: {
      color: { mode: "palette-classic" },
      custom: {
        drawStyle: "line",
        lineInterpolation: "linear",
        lineWidth: 1,
        fillOpacity: 0,
        gradientMode: "none",
        showPoints: "auto",
        pointSize: 5,
        spanNulls: false,
        stacking: { mode: "none", group: "A" },
        axisPlacement: "auto",
        axisColorMode: "text",
        scaleDistribution: { type: "linear" },
        thresholdsStyle: { mode: "off" },
        hideFrom: { legend: false, tooltip: false, viz: false },
      },
    },
    options: { legend: { displayMode: "list", placement: "bottom", showLegend: true, calcs: [] } },
  },
  stat: {
    field: { color: { mode: "thresholds" } },
    options: {
      reduceOptions: { values: false, calcs: ["lastNotNull"], fields: "" },
      graphMode: "area",
      colorMode: "value",
      justifyMode: "auto",
      textMode: "auto",
      wideLayout: true,
    },
  },
  table: {
    field: {
      color: { mode: "thresholds" },
      custom: { align: "auto", cellOptions: { type: "auto" }, inspect: false },
    },
    options: { showHeader: true, cellHeight: "sm", sortBy: [] },
  },
};

export const isKnown = (panel) => panel.type in DEFAULTS;

// The frames as the panel shows them, and its options.
export const prepared = async (panel, data, theme) => {
  const { field, options } = DEFAULTS[panel.type];
  const { defaults = {}, overrides = [] } = panel.fieldConfig ?? {};
  const transformed = await lastValueFrom(transformDataFrame(panel.transformations ?? [], data));
  // Null is how JSON says it.
  const thresholds = { ...(defaults.thresholds ?? THRESHOLDS) };
  thresholds.steps = thresholds.steps.map((step) => ({ ...step, value: step.value ?? -Infinity }));
  const fieldConfig = {
    defaults: {
      ...field,
      ...defaults,
      custom: { ...field.custom, ...defaults.custom },
      thresholds,
    },
    overrides,
  };
  const given = {
    data: transformed,
    fieldConfig,
    theme,
    timeZone: "browser",
    replaceVariables: asIs,
    fieldConfigRegistry: registry,
  };
  return {
    data: applyFieldOverrides(given),
    fieldConfig,
    options: { ...options, ...panel.options },
  };
};

const Stat = ({ data, fieldConfig, options, theme, width, height }) => {
  const values = () =>
    getFieldDisplayValues({
      fieldConfig,
      reduceOptions: options.reduceOptions,
      replaceVariables: asIs,
      theme,
      data,
      sparkline: options.graphMode !== "none",
      timeZone: "browser",
    });
  const one = ({ value, width: wide, height: high, count }) => (
    <BigValue
      value={value.display}
      count={count}
      sparkline={value.sparkline}
      colorMode={options.colorMode}
      graphMode={options.graphMode}
      justifyMode={options.justifyMode}
      textMode={options.textMode === "auto" && count === 1 ? "value" : options.textMode}
      wideLayout={options.wideLayout}
      width={wide}
      height={high}
      theme={theme}
    />
  );
  return (
    <VizRepeater
      getValues={values}
      getAlignmentFactors={() => ({ title: "", text: "" })}
      renderValue={one}
      width={width}
      height={height}
      source={data}
      itemSpacing={3}
      renderCounter={0}
      autoGrid={true}
      orientation="auto"
    />
  );
};

const isEmpty = (data) =>
  !data.some((frame) => frame.length && frame.fields.some((f) => f.type === FieldType.number));

// One panel's inside.
export const Panel = ({ panel, shown, range, theme, width, height }) => {
  const centred = { display: "flex", alignItems: "center", justifyContent: "center", height };
  if (!shown) return <div style={centred}>Not drawn: a panel of type {panel.type}</div>;
  const { data, fieldConfig, options } = shown;
  if (isEmpty(data)) return <div style={centred}>No data</div>;
  if (panel.type === "stat") return <Stat {...{ ...shown, theme, width, height }} />;
  if (panel.type === "table") {
    return (
      <Table
        data={data[0]}
        width={width}
        height={height}
        noHeader={!options.showHeader}
        cellHeight={options.cellHeight}
        initialSortBy={options.sortBy}
        fieldConfig={fieldConfig}
      />
    );
  }
  return (
    <TimeSeries
      frames={data}
      structureRev={1}
      timeRange={range}
      timeZone="browser"
      width={width}
      height={height}
      legend={options.legend}
      options={options}
    />
  );
};

export const hasNone = (shown) => shown && isEmpty(shown.data);
