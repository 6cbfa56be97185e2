"""The parameters of a ComfyUI picture, read from the graph of nodes it carries."""

from __future__ import annotations

from collections.abc import Iterator, Mapping

from sfumato.picture import names

Node = Mapping[str, object]
Graph = Mapping[str, object]

_DEPTH = 30


def parameters(graph: Graph) -> tuple[str, str, dict[str, object]] | None:
    """Prompt, negative prompt and pairs of the first sampler node; None if the graph has none."""
    sampler = next((node for node in _nodes(graph) if "sampler" in _kind(node).lower() and "steps" in _inputs(node)), None)
    if sampler is None:
        return None
    given = _inputs(sampler)
    latent = _find(graph, given.get("latent_image"), "width")
    loader = _find(graph, given.get("model"), "ckpt_name")
    pairs = {
        "Steps": _value(given.get("steps")),
        "Sampler": names.sampler(str(given.get("sampler_name", ""))),
        "Schedule type": names.schedule(str(given.get("scheduler", ""))),
        "CFG scale": _value(given.get("cfg")),
        "Seed": _value(given.get("seed", given.get("noise_seed"))),
        "Size": f"{_value(latent.get('width'))}x{_value(latent.get('height'))}" if latent else None,
        "Model": str(loader["ckpt_name"]).rpartition(".")[0] if loader else None,
    }
    if isinstance(given.get("denoise"), (int, float)) and given["denoise"] != 1:
        pairs["Denoising strength"] = given["denoise"]
    return _text(graph, given.get("positive")), _text(graph, given.get("negative")), pairs


def _nodes(graph: Graph) -> Iterator[Node]:
    return (node for node in graph.values() if isinstance(node, Mapping))


def _kind(node: Node) -> str:
    return str(node.get("class_type", ""))


def _inputs(node: Node) -> Mapping[str, object]:
    inputs = node.get("inputs")
    return inputs if isinstance(inputs, Mapping) else {}


def _value(value: object) -> object:
    """A plain number; links to other nodes say nothing here."""
    return value if isinstance(value, (int, float)) and not isinstance(value, bool) else None


def _follow(graph: Graph, link: object) -> Iterator[Mapping[str, object]]:
    """The inputs of the node a link points to, then of the nodes behind it, along first links."""
    for _ in range(_DEPTH):
        node = graph.get(str(link[0])) if isinstance(link, list) and link else None
        if not isinstance(node, Mapping):
            return
        inputs = _inputs(node)
        yield inputs
        link = next((value for value in inputs.values() if isinstance(value, list)), None)


def _find(graph: Graph, link: object, name: str) -> Mapping[str, object]:
    return next((inputs for inputs in _follow(graph, link) if name in inputs), {})


def _text(graph: Graph, link: object) -> str:
    """The words of the text node behind a link."""
    for inputs in _follow(graph, link):
        for name in ("text", "text_g", "string", "value"):
            value = inputs.get(name)
            if isinstance(value, str):
                return value
            if isinstance(value, list):
                return _text_of(graph, value)
    return ""


def _text_of(graph: Graph, link: list[object]) -> str:
    """A text that is itself made by a node."""
    for inputs in _follow(graph, link):
        found = next((value for value in inputs.values() if isinstance(value, str)), None)
        if found is not None:
            return found
    return ""
