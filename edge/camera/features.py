"""What each make calls what we need of a camera. First the name of the SFNC (2.7), then older ones; the first that a
camera has is used.

SFNC: GenICam Standard Features Naming Convention. The older names are those of Basler's ace GigE (`Sequence*`,
`*Abs`), of Allied Vision's GigE cameras (`*Abs`) and of SFNC 1.
"""

from dataclasses import dataclass

Value = bool | int | float | str
Names = tuple[str, ...]


@dataclass(frozen=True)
class Write:
    """One feature set to a value, or, without one, a command executed."""

    feature: str
    value: Value | None = None

    def __str__(self) -> str:
        return f"{self.feature} ()" if self.value is None else f"{self.feature} = {self.value}"


EXPOSURE_US: Names = ("ExposureTime", "ExposureTimeAbs")
GAIN_DB: Names = ("Gain", "GainAbs", "GainRaw")
"""Decibels where it is a floating-point number; older cameras count steps of their own under the same names."""
USER_OUTPUTS = "UserOutputValueAll"

BEFORE_EXPOSURE = (Write("ExposureAuto", "Off"), Write("ExposureMode", "Timed"), Write("GainAuto", "Off"))
"""Where a camera has these, they must be so, or our exposure times do not hold."""

TRIGGER_SELECTORS: Names = ("FrameStart", "ExposureStart")
OTHER_TRIGGERS: Names = ("AcquisitionStart", "FrameBurstStart")
"""Triggers that must be off, or the camera waits for them too."""


@dataclass(frozen=True)
class Chunk:
    """What a camera tells beside an image: entry of ChunkSelector, feature that holds it; worth nothing `unless` it
    is something else than this."""

    entry: str
    feature: str
    unless: Write | None = None


CHUNKS: dict[str, tuple[Chunk, ...]] = {
    "active_set": (
        Chunk("SequencerSetActive", "ChunkSequencerSetActive"),
        Chunk("SequenceSetIndex", "ChunkSequenceSetIndex"),
    ),
    "line_status": (Chunk("LineStatusAll", "ChunkLineStatusAll"),),
    "exposure_us": (Chunk("ExposureTime", "ChunkExposureTime"),),
    "gain_db": (Chunk("Gain", "ChunkGain"),),
    "encoder_count": (
        Chunk("EncoderValue", "ChunkEncoderValue", Write("EncoderSourceA", "Off")),
        Chunk("CounterValue", "ChunkCounterValue", Write("CounterEventSource", "Off")),
        Chunk("ShaftEncoderCounter", "ChunkShaftEncoderCounter"),
    ),
}
"""By field of a Shot. A counter that counts nothing would say that the web stands."""


@dataclass(frozen=True)
class Sequencer:
    """How a make's sequencer is told its sets.

    `begin` (its first write switches the sequencer off) and `end` around the sets; of each set `select`, `load` and
    `save`; `following`: which set comes next; `advance`: the event, the first of `advance_on` that the camera knows,
    that goes on to it; `count`: number of sets; `every_set`: what else each holds; `stored`: the selector, and its
    switch, that says which features a set holds; `holds_outputs`: whether user outputs can be among them.
    """

    begin: tuple[Write, ...]
    select: str
    load: str
    save: str
    end: tuple[Write, ...]
    following: str | None = None
    advance: str | None = None
    advance_on: Names = ()
    count: str | None = None
    every_set: tuple[Write, ...] = ()
    stored: tuple[str, str] | None = None
    holds_outputs: bool = True


SEQUENCERS = (
    Sequencer(
        begin=(Write("SequencerMode", "Off"), Write("SequencerConfigurationMode", "On")),
        select="SequencerSetSelector",
        load="SequencerSetLoad",
        save="SequencerSetSave",
        end=(
            Write("SequencerSetStart", 0),
            Write("SequencerConfigurationMode", "Off"),
            Write("SequencerMode", "On"),
        ),
        following="SequencerSetNext",
        advance="SequencerTriggerSource",
        advance_on=("ExposureEnd", "FrameEnd", "FrameStart", "ExposureStart", "FrameTrigger"),
        every_set=(Write("SequencerPathSelector", 0),),
        stored=("SequencerFeatureSelector", "SequencerFeatureEnable"),
    ),
    Sequencer(
        begin=(Write("SequenceEnable", False), Write("SequenceAdvanceMode", "Auto")),
        select="SequenceSetIndex",
        load="SequenceSetLoad",
        save="SequenceSetStore",
        end=(Write("SequenceEnable", True),),
        count="SequenceSetTotalNumber",
        every_set=(Write("SequenceSetExecutions", 1),),
        holds_outputs=False,
    ),
)
"""SFNC; Basler's ace GigE before it, whose sets hold exposure, gain and region but no outputs."""
