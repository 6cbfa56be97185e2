"""Names and tables of samplers and schedules against the vectors."""

import pytest
from vectors import by_id, load

from sfumato.engine.sampling.samplers import resolve_a1111, samplers
from sfumato.engine.sampling.schedules import schedules

_, CASES = load("sampler_names")


def lower_case_aliases(name):
    """Aliases in lower case; one that differs from the name in nothing but case needs no entry in the registry."""
    return list(samplers.aliases(name)) or [name.casefold()]


def sampler_row(name):
    sampler = samplers[name]
    options = {
        "scheduler": sampler.schedule,
        "second_order": sampler.second_order,
        "brownian_noise": sampler.brownian,
        "uses_ensd": sampler.uses_ensd,
        "discard_next_to_last_sigma": sampler.discard_penultimate,
        **sampler.preset,
    }
    return {"name": name, "aliases": lower_case_aliases(name), "options": {key: value for key, value in options.items() if value}}


def schedule_row(label):
    schedule = schedules[label]
    return {
        "name": schedule.name,
        "label": label,
        "default_rho": -1 if schedule.rho is None else schedule.rho,
        "need_inner_model": schedule.model_levels,
    }


@pytest.mark.parametrize("case", by_id(CASES))
def test_names(case):
    if case.get("list") == "samplers":
        assert [sampler_row(name) for name in samplers] == case["expected"]
    elif case.get("list") == "schedulers":
        assert [schedule_row(label) for label in schedules] == [
            {key: value for key, value in row.items() if key != "aliases"} for row in case["expected"]
        ]
        for row in case["expected"]:
            for alias in row["aliases"] or ():
                assert schedules.resolve(alias) == row["label"]
    elif "total_steps" in case:
        assert samplers[case["sampler"]].total_steps(case["steps"]) == case["expected"]
    else:
        found = resolve_a1111(case["sampler"], case["scheduler"], convert_automatic=case["convert_automatic"])
        assert list(found) == case["expected"]
