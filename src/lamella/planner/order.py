"""Orders of the nodes worth trying: the position of a cut means something only within one."""

from __future__ import annotations

from lamella.planner.flow import Flow


def candidate_orders(flow: Flow) -> list[tuple[int, ...]]:
    """Topological orders of the placed nodes, the better one first: depth-first, and the file's where it differs.

    The order that keeps the fewest bytes alive is NP-hard to find (it is register allocation). A third order, greedy by
    bytes made and freed, was tried on CNNs and transformers and refused: depth-first was never worse.
    """
    depth_first = _depth_first(flow)
    return [depth_first] if depth_first == flow.placed else [depth_first, flow.placed]


def _depth_first(flow: Flow) -> tuple[int, ...]:
    """Each node right after what it needs, starting from the outputs: finishes a branch before it starts the next."""
    sources = _sources(flow)
    used = {source for found in sources.values() for source in found}
    stack = [index for index in reversed(flow.placed) if index not in used]
    done: set[int] = set()
    order: list[int] = []
    while stack:
        index = stack[-1]
        pending = [source for source in sources[index] if source not in done]
        if index in done or not pending:
            stack.pop()
            if index not in done:
                done.add(index)
                order.append(index)
        else:
            stack += reversed(pending)
    return tuple(order)


def _sources(flow: Flow) -> dict[int, list[int]]:
    """For each placed node, the placed nodes that it takes values from."""
    placed, maker, nodes = set(flow.placed), flow.maker, flow.model.graph.nodes
    return {
        index: list(dict.fromkeys(s for name in nodes[index].uses if (s := maker.get(name, -1)) in placed))
        for index in flow.placed
    }
