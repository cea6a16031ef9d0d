"""How numbers were made, in lines for the reader of a table."""

from core.metrics.naming import distance_title, is_network, origin_of
from core.report.rows import Measurement, Plan
from core.report.yardstick import Yardstick


def how_made(plan: Plan, found: Measurement) -> list[str]:
    """What `frechet` is in each features, and all that it depends on.

    The word FID stands with its value, the resize, the rounding, the number of samples and both
    hashes, or not at all (`core.metrics.naming.distance_title`).
    """
    lines: list[str] = []
    for stick in plan.sticks:
        rows = [
            one
            for one in found.numbers
            if one["metric"] == "frechet" and one["features"] == stick.extractor.name
        ]
        title = distance_title(stick.extractor, plan.n)
        if title == "FID":
            lines += [f"FID {_short(row['value'])}: {_drawing(row)}" for row in rows]
        rounding = rows[0]["rounding"] if rows else "none"
        lines += [*_features(stick, plan, title, rounding), *_reference(stick)]
        if title == "FID" and origin_of(stick.extractor).resize.startswith("TensorFlow 1"):
            lines.append(
                "  comparable with the pipelines of EDM, ADM, MeanFlow; not with clean-fid"
            )
    return lines


def _features(stick: Yardstick, plan: Plan, title: str, rounding: str) -> list[str]:
    origin = origin_of(stick.extractor)
    head = "FID" if title == "FID" else f"frechet is {title}"
    shares = {"none": "no classes", "balanced": "classes balanced"}
    classes = shares.get(plan.shares, f"classes {plan.shares}")
    parts = [
        f"features {stick.extractor.name}",
        *([] if origin.resize == "none" else [f"resize {origin.resize}"]),
        "values not rounded" if rounding == "none" else f"bytes {rounding}",
        f"n {plan.n:,}, samples 0 to {plan.n - 1:,} of seed {plan.seed}, {classes}",
    ]
    return [f"{head}: {'; '.join(parts)}"]


def _reference(stick: Yardstick) -> list[str]:
    n = stick.reference.n
    size = "n unknown" if n is None else f"n {n:,}"
    of = f"sha256 {stick.sha256[:12]}" if stick.sha256 else f"fingerprint {stick.fingerprint}"
    line = f"  reference {stick.name}: {size}, {of}"
    origin = origin_of(stick.extractor)
    if is_network(stick.extractor):
        line += f"; weights sha256 {origin.weights_sha256[:12] or 'unknown'}"
    if origin.licence:
        line += f", licence {origin.licence}"
    return [line]


def _drawing(row: dict) -> str:
    scale = "" if row["guidance"] is None else f", guidance {row['guidance']:g}"
    count = f"{row['nfe']} evaluation{'' if row['nfe'] == 1 else 's'}"
    return f"{row['sampler']}, {count}{scale}"


def _short(value: float) -> str:
    return f"{value:.2f}"
