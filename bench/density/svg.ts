/** Small plots as SVG, readable on light and dark pages: points with spread, lines, a legend; axes linear or logarithmic. */

/** A value with how far its repetitions strayed. */
export interface PlotPoint {
  readonly x: number;
  readonly y: number;
  /** Smallest and largest of the repetitions. */
  readonly low?: number;
  readonly high?: number;
  /** Written beside the point. */
  readonly label?: string;
}

/** Points of one kind. */
export interface Series {
  readonly name: string;
  readonly points: readonly PlotPoint[];
  /** Whether the points are joined, in the order given. */
  readonly line: boolean;
}

/** A plot. */
export interface Plot {
  readonly title: string;
  readonly x: Axis;
  readonly y: Axis;
  readonly series: readonly Series[];
}

/** An axis. */
export interface Axis {
  readonly label: string;
  readonly logarithmic?: boolean;
}

const WIDTH = 860;
const HEIGHT = 480;
const MARGIN = { left: 64, right: 210, top: 40, bottom: 52 };

/** Told apart with common colour blindness (Okabe and Ito), in the middle of the brightness range. */
const COLOURS = ['#0072b2', '#d55e00', '#009e73', '#cc79a7', '#e69f00', '#56b4e9', '#8b6fc0', '#7f7f7f'];

const escapeText = (text: string): string => text.replace(/&/g, '&amp;').replace(/</g, '&lt;').replace(/>/g, '&gt;');

/** Coordinates with a tenth of a pixel: equal results give equal files. */
const px = (value: number): string => String(Math.round(value * 10) / 10);

/** Maps values to pixels and knows where ticks belong. */
class Scale {
  readonly #low: number;
  readonly #high: number;
  readonly #from: number;
  readonly #to: number;
  readonly #logarithmic: boolean;

  constructor(values: readonly number[], logarithmic: boolean, from: number, to: number) {
    const mapped = values.map((value) => (logarithmic ? Math.log10(value) : value));
    const [low, high] = [Math.min(...mapped), Math.max(...mapped)];
    const room = (high - low) * 0.05 || Math.abs(high) * 0.05 || 1;
    this.#low = low - room;
    this.#high = high + room;
    this.#from = from;
    this.#to = to;
    this.#logarithmic = logarithmic;
  }

  at(value: number): number {
    const mapped = this.#logarithmic ? Math.log10(value) : value;
    return this.#from + ((mapped - this.#low) / (this.#high - this.#low)) * (this.#to - this.#from);
  }

  ticks(): number[] {
    if (this.#logarithmic) {
      const ticks: number[] = [];
      for (let power = Math.floor(this.#low); power <= this.#high; power++)
        for (const digit of this.#high - this.#low < 1.5 ? [1, 2, 3, 5] : [1])
          if (Math.log10(digit) + power >= this.#low && Math.log10(digit) + power <= this.#high)
            ticks.push(digit * 10 ** power);
      return ticks;
    }
    const rough = (this.#high - this.#low) / 6;
    const unit = 10 ** Math.floor(Math.log10(rough));
    const step = unit * ([1, 2, 5, 10].find((factor) => factor * unit >= rough) ?? 10);
    const ticks: number[] = [];
    for (let i = Math.ceil(this.#low / step); i * step <= this.#high; i++) ticks.push(i * step);
    return ticks;
  }
}

/** A number as people write it on an axis. */
const tickText = (value: number): string => String(Number(value.toPrecision(3)));

/** The plot as a standalone SVG document. Needs at least one point; logarithmic axes need positive values. */
export function renderPlot(plot: Plot): string {
  const points = plot.series.flatMap((series) => series.points);
  const [left, right] = [MARGIN.left, WIDTH - MARGIN.right];
  const [top, bottom] = [MARGIN.top, HEIGHT - MARGIN.bottom];
  const x = new Scale(
    points.map((point) => point.x),
    plot.x.logarithmic === true,
    left,
    right,
  );
  const y = new Scale(
    points.flatMap((point) => [point.y, point.low ?? point.y, point.high ?? point.y]),
    plot.y.logarithmic === true,
    bottom,
    top,
  );
  const parts = [
    `<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 ${WIDTH} ${HEIGHT}" role="img" font-family="system-ui, sans-serif" font-size="12">`,
    `<title>${escapeText(plot.title)}</title>`,
    '<style>.ink{fill:#222}.rule{stroke:#8888}.page{fill:#fff}' +
      '@media(prefers-color-scheme:dark){.ink{fill:#ddd}.page{fill:#16181c}}</style>',
    `<rect class="page" width="${WIDTH}" height="${HEIGHT}"/>`,
    `<text class="ink" x="${left}" y="22" font-size="15">${escapeText(plot.title)}</text>`,
  ];
  for (const tick of x.ticks()) {
    const at = px(x.at(tick));
    parts.push(`<line class="rule" x1="${at}" y1="${top}" x2="${at}" y2="${bottom}" stroke-width="0.5"/>`);
    parts.push(`<text class="ink" x="${at}" y="${bottom + 18}" text-anchor="middle">${tickText(tick)}</text>`);
  }
  for (const tick of y.ticks()) {
    const at = px(y.at(tick));
    parts.push(`<line class="rule" x1="${left}" y1="${at}" x2="${right}" y2="${at}" stroke-width="0.5"/>`);
    parts.push(`<text class="ink" x="${left - 8}" y="${at}" dy="4" text-anchor="end">${tickText(tick)}</text>`);
  }
  const middle = (top + bottom) / 2;
  parts.push(
    `<text class="ink" x="${(left + right) / 2}" y="${HEIGHT - 12}" text-anchor="middle">${escapeText(plot.x.label)}</text>`,
    `<text class="ink" x="16" y="${middle}" text-anchor="middle" transform="rotate(-90 16 ${middle})">${escapeText(plot.y.label)}</text>`,
  );
  plot.series.forEach((series, i) => {
    const colour = COLOURS[i % COLOURS.length];
    const legendAt = top + 8 + i * 18;
    if (series.line) {
      const path = series.points.map((point) => `${px(x.at(point.x))},${px(y.at(point.y))}`).join(' ');
      parts.push(`<polyline points="${path}" fill="none" stroke="${colour}" stroke-width="1.6"/>`);
    }
    for (const point of series.points) {
      const [cx, cy] = [px(x.at(point.x)), px(y.at(point.y))];
      if (point.low !== undefined && point.high !== undefined)
        parts.push(
          `<line x1="${cx}" y1="${px(y.at(point.low))}" x2="${cx}" y2="${px(y.at(point.high))}" stroke="${colour}" stroke-width="1.6"/>`,
        );
      parts.push(`<circle cx="${cx}" cy="${cy}" r="3.4" fill="${colour}"/>`);
      if (point.label !== undefined)
        parts.push(
          `<text class="ink" x="${cx}" y="${cy}" dx="6" dy="-5" font-size="10">${escapeText(point.label)}</text>`,
        );
    }
    parts.push(
      `<circle cx="${right + 16}" cy="${legendAt}" r="4" fill="${colour}"/>`,
      `<text class="ink" x="${right + 26}" y="${legendAt}" dy="4">${escapeText(series.name)}</text>`,
    );
  });
  return `${parts.join('\n')}\n</svg>\n`;
}
