"""A line chart as one SVG file: axes, a grid, a legend; readable on light and dark."""
import math
from xml.sax.saxutils import escape

WIDTH, HEIGHT = 900, 460
LEFT, RIGHT, TOP, BOTTOM = 70, 20, 84, 50
NOTE_LETTER, NOTE_HEIGHT = 7, 17  # room for a letter of a note, and for a row of notes
# Told apart by everyone who sees colours differently, on white and on near-black (after Okabe and Ito).
COLOURS = [("#0072b2", "#56b4e9"), ("#d55e00", "#ff8c42"), ("#007a5a", "#2fcf9f"), ("#a3478a", "#e08cc8"),
           ("#6b6b00", "#d9cf3f"), ("#5b5bd6", "#9c9cff")]
DASHES = {"solid": "", "dashed": "7 4", "dotted": "2 4"}


def ticks(high, count=6):
    """Round numbers from 0 to at least high."""
    raw = max(high, 1e-9) / count
    power = 10 ** math.floor(math.log10(raw))
    step = next(power * m for m in (1, 2, 2.5, 5, 10) if power * m >= raw)
    return [step * i for i in range(math.ceil(high / step - 1e-9) + 1)]


def _style():
    light = "".join(f".c{i}{{stroke:{a}}}" for i, (a, _) in enumerate(COLOURS))
    dark = "".join(f".c{i}{{stroke:{z}}}" for i, (_, z) in enumerate(COLOURS))
    return ("<style>svg{background:#fff}text{font:13px system-ui,sans-serif;fill:#222}.title{font-size:16px;"
            "font-weight:600}.grid{stroke:#ddd}.axis{stroke:#666}.mark{stroke:#999;stroke-dasharray:3 3}"
            ".note{paint-order:stroke;stroke:#fff;stroke-width:4px}"
            f"path,.key{{fill:none;stroke-width:2}}{light}"
            "@media(prefers-color-scheme:dark){svg{background:#16181c}text{fill:#e4e6ea}.grid{stroke:#30343b}"
            f".axis{{stroke:#9aa0a8}}.mark{{stroke:#7a808a}}.note{{stroke:#16181c}}{dark}}}</style>")


def line_chart(path, title, x_label, y_label, series, marks=()):
    """series: (label, [(x, y)], colour index, "solid" | "dashed" | "dotted"); marks: (x, text)."""
    xs = ticks(max(x for _, points, _, _ in series for x, _ in points), 8)
    ys = ticks(max(y for _, points, _, _ in series for _, y in points))
    plot_width, plot_height = WIDTH - LEFT - RIGHT, HEIGHT - TOP - BOTTOM

    def at_x(x):
        return LEFT + x / xs[-1] * plot_width

    def at_y(y):
        return TOP + (1 - y / ys[-1]) * plot_height

    out = [f'<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 {WIDTH} {HEIGHT}" role="img" '
           f'aria-label="{escape(title)}">', _style(), f'<text class="title" x="{LEFT}" y="24">{escape(title)}</text>']
    for y in ys:
        out.append(f'<line class="{"axis" if y == 0 else "grid"}" x1="{LEFT}" x2="{WIDTH - RIGHT}" '
                   f'y1="{at_y(y):.1f}" y2="{at_y(y):.1f}"/>'
                   f'<text x="{LEFT - 8}" y="{at_y(y) + 4:.1f}" text-anchor="end">{y:g}</text>')
    for x in xs:
        out.append(f'<text x="{at_x(x):.1f}" y="{HEIGHT - BOTTOM + 18}" text-anchor="middle">{x:g}</text>')
    for x, _ in marks:
        out.append(f'<line class="mark" x1="{at_x(x):.1f}" x2="{at_x(x):.1f}" y1="{TOP}" y2="{HEIGHT - BOTTOM}"/>')
    out.append(f'<text x="{LEFT + plot_width / 2}" y="{HEIGHT - 8}" text-anchor="middle">{escape(x_label)}</text>'
               f'<text transform="translate(16 {TOP + plot_height / 2}) rotate(-90)" text-anchor="middle">'
               f'{escape(y_label)}</text>')
    for number, (label, points, colour, dash) in enumerate(series):
        look = f'class="c{colour % len(COLOURS)}" stroke-dasharray="{DASHES[dash]}"'
        steps = " ".join(f"{'L' if i else 'M'}{at_x(x):.1f} {at_y(y):.1f}" for i, (x, y) in enumerate(points))
        out.append(f'<path {look} d="{steps}"/>')
        x, y = LEFT + number % 5 * 165, 44 + number // 5 * 20
        out.append(f'<line {look.replace("class=" + chr(34), "class=" + chr(34) + "key ")} x1="{x}" x2="{x + 24}" '
                   f'y1="{y}" y2="{y}"/><text x="{x + 30}" y="{y + 4}">{escape(label)}</text>')
    row_ends = []  # where the notes of each row end, the topmost first
    for x, text in marks:  # last, with a rim, so that no line hides them
        left = min(at_x(x) + 4, WIDTH - RIGHT - len(text) * NOTE_LETTER)
        row = next((row for row, end in enumerate(row_ends) if end < left), len(row_ends))
        row_ends[row:row + 1] = [left + (len(text) + 1) * NOTE_LETTER]
        out.append(f'<text class="note" x="{left:.1f}" y="{TOP + 13 + row * NOTE_HEIGHT}">{escape(text)}</text>')
    out.append("</svg>\n")
    with open(path, "w") as file:
        file.write("\n".join(out))
    return path
