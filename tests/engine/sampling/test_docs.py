"""The tables of the reference page are those of the registries."""

from pathlib import Path

from sfumato.engine.sampling.samplers import samplers
from sfumato.engine.sampling.schedules import schedules

PAGE = Path(__file__).parents[3] / "docs" / "reference" / "samplers.md"


def table(head, rows):
    lines = [" | ".join(head), " | ".join("---" for _ in head), *(" | ".join(row) for row in rows)]
    return "\n".join(f"| {line} |" for line in lines)


def sampler_row(name):
    sampler = samplers[name]
    own = (
        schedules[sampler.schedule].label
        if sampler.schedule
        else "even timesteps"
        if sampler.spacing in ("sigmas", "lcm")
        else "its own"
    )
    noise = "Brownian" if sampler.brownian else "plain" if sampler.uses_ensd or name in ("LCM", "Restart") else "none"
    noise = "when asked" if noise == "none" and sampler.options else noise
    return [
        f"**{name}**",
        ", ".join(f"`{alias}`" for alias in samplers.aliases(name)) or "–",
        sampler.summary,
        own,
        "2" if sampler.second_order else "1",
        noise,
        ", ".join(f"`{option}`" for option in sampler.options) or "–",
    ]


def schedule_row(label):
    schedule = schedules[label]
    aliases = [alias for alias in schedules.aliases(label) if alias != schedule.name]
    names = ", ".join(f"`{name}`" for name in (schedule.name, *aliases))
    return [f"**{label}**", names, schedule.summary, "–" if schedule.rho is None else f"{schedule.rho:g}"]


def test_samplers():
    expected = table(
        ["Sampler", "Aliases", "What it is", "Own schedule", "Evaluations a step", "Fresh noise", "Options"],
        [sampler_row(name) for name in samplers],
    )
    assert expected in PAGE.read_text(encoding="utf-8"), f"the page should hold:\n{expected}"


def test_schedules():
    expected = table(["Schedule", "Names", "Noise levels", "rho"], [schedule_row(label) for label in schedules])
    assert expected in PAGE.read_text(encoding="utf-8"), f"the page should hold:\n{expected}"
