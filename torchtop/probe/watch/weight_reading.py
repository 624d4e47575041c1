"""One parameter, read in pieces: its norm, output channels near zero, elements near zero. Keeps numbers of ours only."""

from __future__ import annotations

import math

# Elements read at once at most: with so many torch would wake its threads, or start them (at::internal::GRAIN_SIZE).
PIECE = (1 << 15) - 1
_FEWEST = 64  # channels of one parameter that are read at least, of those it has
_SAMPLE = 1 << 15  # elements of one parameter that are compared one by one: 30 us (measured 0.9 ns an element)
_RUNS = 8  # in which the channels of one parameter are read at least, where not all of them are
_GOLDEN = 0.618  # of one step: shifts by it fall evenly and never in step with anything
_NEAR = 0.01  # of a root mean square: below it is near zero; a Gaussian has 0.8 % of its elements there

# Not a class of torch's: transformers.pytorch_utils.Conv1D, a Linear with `weight: (in_features, out_features)`.
_TRANSPOSED_LINEAR = "Conv1D"


class NotReadable(Exception):
    """Why this parameter is left out."""


class Reading:
    """`step` reads a piece; afterwards `norm` and so on are known. The parameter is looked up anew for each piece."""

    def __init__(self, torch, module, name, limit):
        """limit: elements to read; of a larger parameter every second, third ... channel is. Raises NotReadable."""
        self._torch = torch
        self._name = name
        parameter = self._of(module)
        self._shape = tuple(parameter.shape)
        self._dtype = torch.promote_types(parameter.dtype, torch.float32)
        self.has_channels, self._axis = _channels(torch, module, name, self._shape)
        self._count = self._shape[self._axis]
        self._width = parameter.numel() // self._count
        if self._width > PIECE:
            raise NotReadable("a channel of more than %d elements" % PIECE)
        every = max(1, min(parameter.numel() // limit, self._count // _FEWEST))
        self._every = max(every, -(-self._count // PIECE))
        self.channels_looked = -(-self._count // self._every)
        self._norms = torch.empty(self.channels_looked, dtype=self._dtype, device="cpu")
        self._at = 0
        self._runs = 0
        self._sampled = max(self._every, parameter.numel() // _SAMPLE)
        self._sample_at = None
        self._limit = 0.0
        self.first = None
        self.norm = None
        self.channels_near_zero = None
        self.elements_looked = 0
        self.elements_near_zero = None

    @property
    def channels(self):
        """Output channels, None where it has none."""
        return self._count if self.has_channels else None

    def _of(self, module):
        """The weight that the module computes with, as a plain tensor. Raises NotReadable."""
        torch = self._torch
        parameter = module._parameters.get(self._name)
        mask = module._buffers.get(self._name[:-5] + "_mask") if self._name.endswith("_orig") else None
        if type(parameter) is not torch.nn.Parameter:
            raise NotReadable("of type %s" % type(parameter).__name__)
        if type(parameter.data) is not torch.Tensor or parameter.layout != torch.strided:
            raise NotReadable("of type %s" % type(parameter.data).__name__)
        if parameter.device.type != "cpu":
            raise NotReadable("on %s: only weights in main memory are read yet" % parameter.device.type)
        if not parameter.is_floating_point() or parameter.element_size() < 2:
            raise NotReadable("of dtype %s" % str(parameter.dtype).rpartition(".")[2])
        if not parameter.numel():
            raise NotReadable("empty: their elements are elsewhere")
        tensor = parameter.detach()
        return tensor if mask is None else _Masked(tensor, mask)

    def _run(self, begin, channels, every):
        """(first, end) of a run of every `every`-th channel. Each run is shifted differently: where a weight has a pattern
        of its own (every second channel is zero), all of them would look like one kind."""
        if every > 1:
            channels = min(channels, -(-self._count // every // _RUNS))
        end = min(self._count, begin + channels * every)
        shift = int(self._runs * _GOLDEN * every) % every if (end - begin) % every == 0 else 0
        self._runs += 1
        return begin + shift, end

    def _piece(self, module, begin, end, every):
        tensor = self._of(module)
        if tuple(tensor.shape) != self._shape:
            raise NotReadable("changed while they were read")
        cut = (slice(None),) * self._axis + (slice(begin, end, every),)
        return tensor[cut]

    @property
    def done(self):
        """Whether there is nothing left to read."""
        return self._sample_at is not None and self._sample_at >= self._count

    def step(self, module, elements):
        """Read a piece of so many elements, and of a channel at least; returns how many they were. Raises NotReadable."""
        channels = max(1, min(elements, PIECE) // self._width)
        return self._read_norms(module, channels) if self._sample_at is None else self._compare(module, channels)

    def _read_norms(self, module, channels):
        found = self._norms_of(module, *self._run(self._at, channels, self._every), self._every)
        begin = self._at // self._every
        self._norms[begin : begin + len(found)] = found
        self._at += len(found) * self._every
        if self._at >= self._count:
            self._sum_up()
        return len(found) * self._width

    def _sum_up(self):
        norms, self._sample_at, self._runs = self._norms, 0, 0
        square = float((norms.double() ** 2).sum())
        self.first = norms[0].tolist()  # of channel 0, see `changed`
        self._norms = None
        if not math.isfinite(square):
            self._sample_at = self._count
            return
        mean = math.sqrt(square / self.channels_looked)
        self.norm = mean * math.sqrt(self._count)
        if self.has_channels:
            self.channels_near_zero = int((norms <= _NEAR * mean).sum())
        self._limit = _NEAR * mean / math.sqrt(self._width)
        self.elements_near_zero = 0

    def _norms_of(self, module, begin, end, every=1):
        piece = self._piece(module, begin, end, every)
        others = tuple(axis for axis in range(len(self._shape)) if axis != self._axis)
        return self._torch.linalg.vector_norm(piece, 2, others, dtype=self._dtype)

    def _compare(self, module, channels):
        piece = self._piece(module, *self._run(self._sample_at, channels, self._sampled), self._sampled)
        self._sample_at += piece.shape[self._axis] * self._sampled
        self.elements_looked += piece.numel()
        self.elements_near_zero += int(self._torch.count_nonzero(piece.abs() <= self._limit))
        return piece.numel()

    def changed(self, module):
        """Whether the first channel is another than when it was read first. Raises NotReadable."""
        return self._norms_of(module, 0, 1)[0].tolist() != self.first


class _Masked:
    """A weight of torch.nn.utils.prune: what counts is weight_orig * weight_mask, computed for the piece at hand."""

    def __init__(self, tensor, mask):
        self._tensor = tensor
        self._mask = mask
        self.shape = tensor.shape
        self.dtype = tensor.dtype
        self.numel = tensor.numel

    def __getitem__(self, cut):
        return self._tensor[cut] * self._mask[cut]


def _channels(torch, module, name, shape):
    """(whether an axis of the weight counts output channels, which axis to go along)."""
    conv = torch.nn.modules.conv
    if name not in ("weight", "weight_orig"):
        return False, 0
    if isinstance(module, conv._ConvTransposeNd):
        return module.groups == 1, 1 if module.groups == 1 else 0
    if isinstance(module, (torch.nn.Linear, conv._ConvNd)):
        return True, 0
    if type(module).__name__ == _TRANSPOSED_LINEAR and getattr(module, "nf", None) == shape[-1] and len(shape) == 2:
        return True, 1
    return False, 0
