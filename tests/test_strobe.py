"""The strobe plan on cameras in memory, and on the descriptions of six real ones."""

import os
from pathlib import Path

import pytest

from edge.camera.features import USER_OUTPUTS, Value
from edge.camera.genicam import describe_plan
from edge.camera.setup import enable_chunks, set_format
from edge.camera.strobe import strobe_plan
from edge.core.config import CameraConfig, LightConfig
from edge.core.errors import CameraError

HELD = ("ExposureTime", "Gain", USER_OUTPUTS, "SequencerTriggerSource", "SequencerSetNext")
LIGHTS = [LightConfig(exposure_us=20.0 + k, gain_db=float(k), output=3 - k) for k in range(4)]


class MemoryCamera:
    """A camera with SFNC's sequencer. `features` by name; an enumeration's value is one of its `choices`."""

    def __init__(self) -> None:
        self.features: dict[str, Value] = {
            "TriggerSelector": "FrameStart",
            "TriggerSource": "Software",
            "ExposureAuto": "Continuous",
            "ExposureTime": 5000.0,
            "Gain": 3.0,
            USER_OUTPUTS: 0,
            "SequencerMode": "Off",
            "SequencerConfigurationMode": "Off",
            "SequencerSetSelector": 0,
            "SequencerPathSelector": 0,
            "SequencerSetNext": 0,
            "SequencerSetStart": 2,
            "SequencerTriggerSource": "Off",
            "SequencerFeatureSelector": "ExposureTime",
            "ChunkModeActive": False,
            "ChunkSelector": "FrameID",
            "ChunkSequencerSetActive": 0,
            "ChunkCounterValue": 0,
            "CounterEventSource": "Off",
        }
        self.choices: dict[str, list[str]] = {
            "TriggerSelector": ["AcquisitionStart", "FrameStart"],
            "TriggerSource": ["Software", "Line1", "Line2"],
            "ExposureAuto": ["Off", "Continuous"],
            "SequencerMode": ["Off", "On"],
            "SequencerConfigurationMode": ["Off", "On"],
            "SequencerTriggerSource": ["Off", "FrameStart", "ExposureEnd"],
            "SequencerFeatureSelector": ["ExposureTime", "Gain", USER_OUTPUTS],
            "ChunkSelector": ["FrameID", "SequencerSetActive", "CounterValue"],
        }
        self.selected: dict[str, dict[str, Value]] = {
            "TriggerMode": {"AcquisitionStart": "On", "FrameStart": "Off"},
            "SequencerFeatureEnable": dict.fromkeys(self.choices["SequencerFeatureSelector"], False),
            "ChunkEnable": dict.fromkeys(self.choices["ChunkSelector"], False),
        }
        self.sets: dict[Value, dict[str, Value]] = {}
        self.held = HELD
        self.locked: set[str] = set()

    def _selector(self, feature: str) -> str:
        selector = {"TriggerMode": "Trigger", "SequencerFeatureEnable": "SequencerFeature", "ChunkEnable": "Chunk"}
        return str(self.features[selector[feature] + "Selector"])

    def remove(self, *features: str) -> None:
        for feature in features:
            del self.features[feature]

    def has(self, feature: str) -> bool:
        return feature in self.features or feature in self.selected or self._is_command(feature)

    def _is_command(self, feature: str) -> bool:
        return feature in ("SequencerSetSave", "SequencerSetLoad") and "SequencerSetSelector" in self.features

    def is_float(self, feature: str) -> bool:
        return isinstance(self.features[feature], float)

    def entries(self, feature: str) -> list[str]:
        return self.choices[feature]

    def read(self, feature: str) -> Value:
        if feature in self.selected:
            return self.selected[feature][self._selector(feature)]
        return self.features[feature]

    def write(self, feature: str, value: Value | None) -> None:
        if feature in self.locked:
            raise CameraError(f"{feature} is locked")
        if value is None:
            self._execute(feature)
        elif feature in self.selected:
            self.selected[feature][self._selector(feature)] = value
        elif feature in self.choices and value not in self.choices[feature]:
            raise CameraError(f"{feature} cannot be {value}")
        elif feature in (*HELD, "TriggerSource") and self.features.get("SequencerMode") == "On":
            raise CameraError(f"{feature} is locked")
        else:
            self.features[feature] = value

    def _execute(self, command: str) -> None:
        assert self.features["SequencerConfigurationMode"] == "On"
        number = self.features["SequencerSetSelector"]
        chosen = self.selected["SequencerFeatureEnable"] if "SequencerFeatureSelector" in self.features else {}
        stored = [feature for feature in self.held if chosen.get(feature, True)]
        if command == "SequencerSetSave":
            self.sets[number] = {feature: self.features[feature] for feature in stored if feature in self.features}
        else:
            self.features |= self.sets[number]


def apply(camera: MemoryCamera, **changed: object) -> None:
    config = CameraConfig(lights=LIGHTS, **changed)  # type: ignore[arg-type]
    strobe_plan(config, camera).apply(camera)


def refused(camera: MemoryCamera, **changed: object) -> str:
    with pytest.raises(CameraError) as error:
        apply(camera, **changed)
    assert "\n" not in str(error.value)
    return str(error.value)


def test_the_sequencer_holds_every_light_and_runs() -> None:
    camera = MemoryCamera()
    apply(camera)
    assert [camera.sets[k] for k in range(4)] == [
        {
            "ExposureTime": 20.0 + k,
            "Gain": float(k),
            USER_OUTPUTS: 1 << (3 - k),
            "SequencerTriggerSource": "ExposureEnd",
            "SequencerSetNext": (k + 1) % 4,
        }
        for k in range(4)
    ]
    assert camera.features["SequencerMode"] == "On"
    assert camera.features["SequencerConfigurationMode"] == "Off"
    assert camera.features["SequencerSetStart"] == 0
    assert camera.features["ExposureAuto"] == "Off"
    assert camera.features["TriggerSource"] == "Line1"
    assert camera.selected["TriggerMode"] == {"AcquisitionStart": "Off", "FrameStart": "On"}


def test_a_camera_that_runs_a_sequence_already_is_told_anew() -> None:
    camera = MemoryCamera()
    apply(camera)
    apply(camera, trigger="Line2")
    assert (camera.features["TriggerSource"], camera.features["SequencerMode"]) == ("Line2", "On")


def test_a_controller_s_camera_gets_trigger_and_exposure_and_its_sequencer_is_off() -> None:
    camera = MemoryCamera()
    apply(camera)
    plan = strobe_plan(CameraConfig(strobe="controller"), camera)
    plan.apply(camera)
    assert camera.features["SequencerMode"] == "Off"
    assert (camera.features["ExposureTime"], camera.features["Gain"]) == (20.0, 0.0)
    assert "controller counts triggers" in str(plan)
    assert "same exposure" in refused(camera, strobe="controller")


@pytest.mark.parametrize(
    ("lacking", "said"),
    [
        (("SequencerSetSelector",), "no sequencer: use an external strobe controller"),
        ((USER_OUTPUTS,), "outputs from set to set: use an external strobe controller"),
        (("ExposureTime",), "exposure time"),
        (("Gain",), "gain in dB"),
    ],
)
def test_what_a_camera_lacks_is_said(lacking: tuple[str, ...], said: str) -> None:
    camera = MemoryCamera()
    camera.remove(*lacking)
    assert said in refused(camera)


def test_a_camera_that_names_what_its_sets_hold_is_believed() -> None:
    camera = MemoryCamera()
    camera.choices["SequencerFeatureSelector"].remove(USER_OUTPUTS)
    assert "external strobe controller" in refused(camera)


def test_outputs_that_a_set_loses_are_found_when_it_is_loaded() -> None:
    """A camera that does not say what its sets hold, and does not hold the outputs."""
    camera = MemoryCamera()
    camera.remove("SequencerFeatureSelector")
    camera.held = tuple(feature for feature in HELD if feature != USER_OUTPUTS)
    said = refused(camera)
    assert "set 0" in said and USER_OUTPUTS in said and "external strobe controller" in said
    assert camera.features["SequencerMode"] == "Off"


def test_an_exposure_that_the_camera_changes_is_refused_but_not_a_rounded_one() -> None:
    class Rounding(MemoryCamera):
        step = 0.3

        def write(self, feature: str, value: Value | None) -> None:
            if feature == "ExposureTime" and value is not None:
                value = round(float(value) / self.step) * self.step
            super().write(feature, value)

    apply(Rounding())
    coarse = Rounding()
    coarse.step = 30.0
    assert "ExposureTime" in refused(coarse)


def test_what_has_but_one_value_is_not_written() -> None:
    camera = MemoryCamera()
    camera.selected["SequencerFeatureEnable"] = dict.fromkeys(camera.choices["SequencerFeatureSelector"], True)
    camera.locked = {"SequencerFeatureEnable"}
    apply(camera)
    assert len(camera.sets) == 4


def test_a_camera_that_keeps_its_old_trigger_is_refused() -> None:
    class Stubborn(MemoryCamera):
        def read(self, feature: str) -> Value:
            return "Software" if feature == "TriggerSource" else super().read(feature)

    assert "told TriggerSource = Line1 and has Software" in refused(Stubborn())


def test_an_input_that_does_not_exist_is_refused_with_those_that_do() -> None:
    said = refused(MemoryCamera(), trigger="Line9")
    assert "Line9" in said and "Line1, Line2" in said


def test_a_gain_in_steps_is_not_taken_for_decibels() -> None:
    camera = MemoryCamera()
    camera.features["Gain"] = 64
    assert "gain in dB" in refused(camera)


def test_chunks_that_tell_something_are_switched_on() -> None:
    """A counter that counts nothing would say that the web stands still; a set that nobody steps through, one light."""
    camera = MemoryCamera()
    assert enable_chunks(camera, "sequencer") == {"active_set": "ChunkSequencerSetActive"}
    assert camera.selected["ChunkEnable"] == {"FrameID": False, "SequencerSetActive": True, "CounterValue": False}
    camera.features["CounterEventSource"] = "Line2"
    assert enable_chunks(camera, "controller") == {"encoder_count": "ChunkCounterValue"}
    camera.remove("ChunkModeActive")
    assert enable_chunks(camera, "sequencer") == {}


def test_sizes_left_open_stay_as_the_camera_has_them() -> None:
    camera = MemoryCamera()
    camera.features |= {"PixelFormat": "Mono8", "Width": 640, "Height": 480}
    chosen, shape = set_format(CameraConfig(height_px=256, pixel_format="Mono12p"), camera)
    assert (chosen.name, shape) == ("Mono12p", (256, 640))


# Real cameras, from their descriptions.

FOLDER = Path(os.environ.get("FOILSIGHT_DATA", "")) / "genicam_xml"
real = pytest.mark.skipif("FOILSIGHT_DATA" not in os.environ, reason="FOILSIGHT_DATA is not set")
TRIGGERED = ["TriggerSource = Line1", "TriggerMode = On", "ExposureMode = Timed"]
REAL: dict[str, tuple[str, list[str]]] = {
    "AVT_Manta_1_44": ("no sequencer", ["AcquisitionStart", "ExposureTimeAbs = 20.0", "GainRaw = 0.0", "nothing but"]),
    "Basler-a2A2600-20gmBAS": ("no sequencer", ["ExposureTime = 20.0", "Gain = 0.0", "ChunkLineStatusAll"]),
    "Basler-acA2000-50gmNIR": ("from set to set", ["SequenceEnable = False", "ExposureTimeAbs = 20.0"]),
    "FLIR_BFS_31S4M": ("from set to set", ["SequencerMode = Off", "FrameBurstStart", "ExposureTime = 20.0"]),
    "FLIR_ORX_10G_310S9M": ("from set to set", ["SequencerMode = Off", "ExposureTime = 20.0", "ChunkGain"]),
    "Mikrotron_CXP_MC206xS11": ("no sequencer", ["ExposureTime = 20.0", "nothing but its frame id"]),
}


@pytest.mark.data
@real
@pytest.mark.parametrize("name", REAL)
def test_real_cameras_need_a_controller_and_can_work_with_one(name: str) -> None:
    """None of the six can switch its outputs from set to set; all can be triggered beside a strobe controller."""
    why, told = REAL[name]
    described = describe_plan(FOLDER / f"{name}.xml", CameraConfig())
    own, beside = described.split("strobe = 'controller': ")
    assert why in own and "use an external strobe controller" in own
    for write in TRIGGERED + told:
        assert write in beside
    assert "ChunkSequence" not in beside


@pytest.mark.data
@real
def test_what_real_cameras_refuse_is_said_with_what_they_offer() -> None:
    described = describe_plan(FOLDER / "FLIR_BFS_31S4M.xml", CameraConfig(trigger="Line7"))
    assert "TriggerSource of this camera cannot be Line7: it knows Software, Line0, Line1" in described
    config = CameraConfig(lights=[LightConfig(gain_db=3.0)] * 4)
    assert "gain in dB" in describe_plan(FOLDER / "Mikrotron_CXP_MC206xS11.xml", config)


def test_what_is_no_description_is_refused(tmp_path: Path) -> None:
    file = tmp_path / "camera.xml"
    file.write_text("<html></html>")
    with pytest.raises(CameraError, match=r"camera.xml: not a GenICam description"):
        describe_plan(file, CameraConfig())
