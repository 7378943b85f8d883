"""OpenVINO's model of a graph -> its front end and the rest, so that each computes in a precision of its own."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

CONVOLUTIONS = ("Convolution", "GroupConvolution")
# A front end ends before the second convolution: between two of them is the norm over time of what the first made of a
# waveform or a spectrum. With one alone, it is the spectrum that ends before it.
EXACT = 2
# Constants belong to whoever reads them, and the inputs of the whole to both parts.
NEITHER = ("Constant", "Parameter")


def split(first: Any, second: Any) -> tuple[Any, Any]:
    """Return the front end, cut out of the model `first`, and the rest, cut out of `second`, read from the same file.

    What the rest reads of the front end has the same name in both; it also has the inputs of the whole.
    """
    import openvino
    from openvino import opset13

    nodes = first.get_ordered_ops()
    front = _front_end(nodes)
    left: list[Any] = []
    entered: list[Any] = []
    for node, twin in zip(nodes, second.get_ordered_ops(), strict=True):
        if node.get_name() not in front:
            continue
        for port, source in zip(node.outputs(), twin.outputs(), strict=True):
            readers = zip(port.get_target_inputs(), source.get_target_inputs(), strict=True)
            beyond = [entry for reader, entry in readers if reader.get_node().get_name() not in front]
            if not beyond:
                continue
            parameter = opset13.parameter(source.get_partial_shape(), source.get_element_type())
            names = {*source.get_names(), f"front_end.{len(left)}"}
            port.get_tensor().set_names(names)
            parameter.output(0).get_tensor().set_names(names)
            for entry in beyond:
                entry.replace_source_output(parameter.output(0))
            left.append(port)
            entered.append(parameter)
    head = openvino.Model([opset13.result(port) for port in left], first.get_parameters(), "front_end")
    rest = openvino.Model(second.get_results(), [*second.get_parameters(), *entered], "rest")
    return head, rest


def _front_end(nodes: Sequence[Any]) -> set[str]:
    """Return the names of the nodes of the front end: all that the convolution behind it is computed from."""
    convolutions = [node for node in nodes if node.get_type_name() in CONVOLUTIONS][:EXACT]
    found: set[str] = set()
    left = convolutions[-1:]
    while left:
        sources = [entry.get_source_output().get_node() for entry in left.pop().inputs()]
        new = [node for node in sources if node.get_name() not in found and node.get_type_name() not in NEITHER]
        found |= {node.get_name() for node in new}
        left += new
    return found
