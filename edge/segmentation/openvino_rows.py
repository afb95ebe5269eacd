"""A model on a web that goes on: rows that it has computed once are not computed again.

Windows overlap by two halos, so that strips of 256 rows cost as much as 448. Here each convolution keeps the last rows
of its input until the next rows come, and every activation of the web is computed once, as in the line buffers of
M. Alwani et al., "Fused-layer CNN accelerators", MICRO 2016. What comes out is behind what goes in, by the rows below a
pixel that the network looks at. Where two ways of other lengths meet, a skipped level and what comes up to it, the
shorter one waits.
"""

from typing import Any

import numpy as np

_POINTWISE = {
    "Add", "Subtract", "Multiply", "Divide", "Relu", "Clamp", "Sigmoid", "Convert", "Round",
    "Select", "Greater", "GreaterEqual", "Less", "LessEqual", "Result",
}  # fmt: skip
"""Operations on each value by itself."""
_ALONG_CHANNELS = {"Softmax": None, "Concat": None, "TopK": None, "Squeeze": 1, "ReduceMax": 1, "Gather": 2, "Slice": 4}
"""Operations on each pixel by itself, where they work along the channels: which input says so, None: an attribute."""
_CHANNELS, _ROWS = 1, 2


class NotRowByRow(Exception):
    """The network has an operation of which it is not known here how far it looks, or it is quantised: of what is
    rewritten OpenVINO (2026.4) computes a part only in 8-bit integers, and takes longer than in windows."""


def make_row_by_row(openvino: Any, network: Any, behind: int) -> None:
    """Rewrite a network of a fixed shape [1,C,H,W] to one that takes H new rows of a web at each inference.

    What comes out is of rows that are `behind`. Requests of it remember the rows before; at first these are 0.
    `openvino` is the library. Raises NotRowByRow.
    """
    graph = _Graph(openvino, network)
    for node in network.get_ordered_ops():
        graph.rewrite(node)
    graph.wait_until(behind)
    graph.finish()


class _Graph:
    def __init__(self, openvino: Any, network: Any) -> None:
        self._openvino, self._opset, self._network = openvino, openvino.opset13, network
        self._behind_of: dict[tuple[str, int], int] = {}
        self._sinks: list[Any] = []
        self._variables: list[Any] = []

    def wait_until(self, behind: int) -> None:
        """Have all that comes out wait until it is so many rows behind."""
        for result in self._network.get_results():
            own = self._behind(result.input_value(0)) or 0
            if own > behind:
                raise NotRowByRow(f"{result.get_friendly_name()} is {own} rows behind, not {behind}")
            if own < behind:
                result.input(0).replace_source_output(self._waiting(result.input_value(0), behind - own))

    def finish(self) -> None:
        """Hand over what is remembered."""
        self._network.add_sinks(self._sinks)
        self._network.add_variables(self._variables)
        self._network.validate_nodes_and_infer_types()

    def rewrite(self, node: Any) -> None:
        """One whose inputs have been rewritten."""
        kind, inputs = node.get_type_name(), [self._behind(each) for each in node.input_values()]
        behind = max((each for each in inputs if each is not None), default=0 if kind == "Parameter" else None)
        if behind is None or kind == "ShapeOf":
            return  # a constant: so are shapes
        if kind == "Convolution":
            node, behind = self._convolution(node, behind)
        elif kind in ("MaxPool", "AvgPool"):
            behind = self._pooling(node, behind)
        elif kind == "ConvolutionBackpropData":
            behind *= self._stride_of_blocks(node, node.input_value(1).get_shape()[_ROWS])
        elif kind != "Parameter":
            _require(_is_pointwise(node, inputs) or _is_along_channels(node), node)
            for place, each in zip(node.inputs(), inputs, strict=True):
                if each is not None and each < behind:
                    place.replace_source_output(self._waiting(place.get_source_output(), behind - each))
        for output in node.outputs():
            self._behind_of[_name(output)] = behind

    def _behind(self, output: Any) -> int | None:
        """Rows by which an output is behind, None for a constant."""
        return self._behind_of.get(_name(output))

    def _convolution(self, node: Any, behind: int) -> tuple[Any, int]:
        """One that needs no rows below: those above it remembers."""
        kept = node.get_attributes()
        dilation, begin, end = (kept[name] for name in ("dilations", "pads_begin", "pads_end"))
        reach = dilation[0] * (node.input_value(1).get_shape()[_ROWS] - 1)
        _require(kept["strides"][0] == 1 and begin[0] == end[0] == reach // 2 and reach % 2 == 0, node)
        if not reach:
            return node, behind
        rows = self._remembering(node.input_value(0), reach)
        new = self._opset.convolution(rows, node.input_value(1), kept["strides"], [0, begin[1]], [0, end[1]], dilation)
        new.set_friendly_name(f"{node.get_friendly_name()} row by row")
        for user in node.output(0).get_target_inputs():
            user.replace_source_output(new.output(0))
        return new, behind + reach // 2

    def _pooling(self, node: Any, behind: int) -> int:
        stride = self._stride_of_blocks(node, node.get_attributes()["kernel"][0])
        late = -behind % stride
        if late:  # or blocks would begin on other rows
            node.input(0).replace_source_output(self._waiting(node.input_value(0), late))
        return (behind + late) // stride

    def _stride_of_blocks(self, node: Any, rows: int) -> int:
        kept = node.get_attributes()
        _require(kept["strides"][0] == rows and not kept["pads_begin"][0] and not kept["pads_end"][0], node)
        return rows

    def _remembering(self, source: Any, rows: int) -> Any:
        """What comes, with the last so many rows that came before in front."""
        axis, before = len(source.get_shape()) - 2, list(source.get_shape())
        before[axis] = rows
        about = self._openvino.op.util.VariableInfo()
        about.variable_id, about.data_type = f"rows {len(self._variables)}", source.get_element_type()
        about.data_shape = self._openvino.PartialShape(before)
        variable = self._openvino.op.util.Variable(about)
        nothing = self._opset.constant(np.zeros(before, source.get_element_type().to_dtype()))
        both = self._opset.concat([self._opset.read_value(nothing, variable).output(0), source], axis).output(0)
        self._sinks.append(self._opset.assign(self._part(both, -rows, None).get_node(), variable))
        self._variables.append(variable)
        return both

    def _waiting(self, source: Any, rows: int) -> Any:
        """What comes, so many rows later."""
        return self._part(self._remembering(source, rows), 0, -rows)

    def _part(self, source: Any, begin: int, end: int | None) -> Any:
        axis = len(source.get_shape()) - 2
        indices = range(source.get_shape()[axis])[begin:end]
        begin_end_step_axis = (np.array([each]) for each in (indices.start, indices.stop, 1, axis))
        return self._opset.slice(source, *map(self._opset.constant, begin_end_step_axis)).output(0)


def _name(output: Any) -> tuple[str, int]:
    return output.get_node().get_friendly_name(), output.get_index()


def _is_pointwise(node: Any, behind: list[int | None]) -> bool:
    """Also in that its constants are the same in every row."""
    constants = (value.get_shape() for value, rows in zip(node.input_values(), behind, strict=True) if rows is None)
    return node.get_type_name() in _POINTWISE and all(len(shape) < 2 or shape[-2] == 1 for shape in constants)


def _is_along_channels(node: Any) -> bool:
    kind = node.get_type_name()
    if kind not in _ALONG_CHANNELS:
        return False
    said_by = _ALONG_CHANNELS[kind]
    if said_by is None:
        return bool(node.get_attributes()["axis"] == _CHANNELS)
    said = node.input_value(said_by).get_node()
    return bool(said.get_type_name() == "Constant" and np.ravel(said.data).tolist() == [_CHANNELS])


def _require(holds: bool, node: Any) -> None:
    if not holds:
        raise NotRowByRow(f"{node.get_type_name()} {node.get_friendly_name()}")
