"""The simulated camera's features, said once: its GenICam description and the C header of its registers come from here.

Names are those of the SFNC (GenICam Standard Features Naming Convention 2.7). Every register has 8 bytes, or 64 for a
string, and lies where its place in the table says.
"""

from dataclasses import dataclass
from xml.sax.saxutils import quoteattr

PIXEL_FORMATS = {
    "Mono8": 0x01080001,
    "Mono10": 0x01100003,
    "Mono12": 0x01100005,
    "Mono16": 0x01100007,
    "Mono10p": 0x010A0046,
    "Mono12p": 0x010C0047,
    "Mono10Packed": 0x010C0004,
    "Mono12Packed": 0x010C0006,
}
"""By their names in the PFNC 2.4 (GenICam Pixel Format Naming Convention)."""
TRANSPORTS = {"Custom": "Custom", "GEV": "GigEVision", "U3V": "USB3Vision"}
"""Types of transport layer, by their names in GenTL and in the SFNC."""
_ONLY_ON_GEV = ("Mono10Packed", "Mono12Packed")
_REGISTER_BYTES, _STRING_BYTES = 8, 64


@dataclass(frozen=True)
class Feature:
    """`kind` integer, float, string, boolean, command, or enumeration of `entries`; `writable`, from `low` to `high`
    (a number, or the feature that holds it) in steps; `selects`: the features of which it says which is meant."""

    name: str
    kind: str
    writable: bool = False
    entries: tuple[tuple[str, int], ...] = ()
    low: float = 0
    high: float | str = 1 << 40
    step: int = 1
    selects: tuple[str, ...] = ()


MODULES = ("TLSystem", "TLInterface", "TLDevice", "TLDataStream")
_ON_GEV = (
    '<IntSwissKnife Name="OnGigEVision"><pVariable Name="TYPE">DeviceTLTypeReg</pVariable>'
    f"<Formula>TYPE = {list(TRANSPORTS).index('GEV')}</Formula></IntSwissKnife>"
)
_OFF_ON = (("Off", 0), ("On", 1))
CHUNKS = (
    ("FrameID", "integer"),
    ("Timestamp", "integer"),
    ("SequencerSetActive", "integer"),
    ("LineStatusAll", "integer"),
    ("EncoderValue", "integer"),
    ("ExposureTime", "float"),
    ("Gain", "float"),
)
SETS = 16
FEATURES = (
    Feature("DeviceVendorName", "string"),
    Feature("DeviceModelName", "string"),
    Feature("DeviceSerialNumber", "string"),
    Feature("DeviceID", "string"),
    Feature("DeviceTLType", "enumeration", entries=tuple((name, at) for at, name in enumerate(TRANSPORTS.values()))),
    Feature("WidthMax", "integer"),
    Feature("HeightMax", "integer"),
    Feature("Width", "integer", True, low=16, high="WidthMax", step=4),
    Feature("Height", "integer", True, low=8, high="HeightMax"),
    Feature("PayloadSize", "integer"),
    Feature("PixelFormat", "enumeration", True, tuple(PIXEL_FORMATS.items())),
    Feature("AcquisitionMode", "enumeration", True, (("Continuous", 0),)),
    Feature("AcquisitionStart", "command", True),
    Feature("AcquisitionStop", "command", True),
    Feature("TLParamsLocked", "integer", True, high=1),
    Feature("TriggerSelector", "enumeration", True, (("FrameStart", 0),), selects=("TriggerMode", "TriggerSource")),
    Feature("TriggerMode", "enumeration", True, _OFF_ON),
    Feature("TriggerSource", "enumeration", True, (("Line0", 0), ("Line1", 1), ("Encoder0", 2))),
    Feature("ExposureTime", "float", True, low=1, high=10000),
    Feature("Gain", "float", True, low=0, high=24),
    Feature("UserOutputValueAll", "integer", True, high=255),
    Feature("SequencerMode", "enumeration", True, _OFF_ON),
    Feature("SequencerConfigurationMode", "enumeration", True, _OFF_ON),
    Feature("SequencerSetSelector", "integer", True, high=SETS - 1),
    Feature("SequencerSetSave", "command", True),
    Feature("SequencerSetLoad", "command", True),
    Feature("SequencerSetStart", "integer", True, high=SETS - 1),
    Feature("SequencerPathSelector", "integer", True, high=0),
    Feature("SequencerSetNext", "integer", True, high=SETS - 1),
    Feature("SequencerTriggerSource", "enumeration", True, (("Off", 0), ("FrameStart", 1), ("ExposureEnd", 2))),
    Feature("ChunkModeActive", "boolean", True),
    Feature(
        "ChunkSelector",
        "enumeration",
        True,
        tuple((name, number) for number, (name, _) in enumerate(CHUNKS)),
        selects=("ChunkEnable",),
    ),
    Feature("ChunkEnable", "boolean", True),
)
_TAGS = {"integer": "Integer", "float": "Float", "boolean": "Boolean", "command": "Command"}


def addresses() -> dict[str, int]:
    """Feature to the address of its register."""
    at, found = 0x100, {}
    for feature in FEATURES:
        found[feature.name] = at
        at += _STRING_BYTES if feature.kind == "string" else _REGISTER_BYTES
    return found


def header() -> str:
    """The registers for C."""
    lines = ["#pragma once", "enum {"]
    lines += [f"    R_{name.upper()} = {at:#x}," for name, at in addresses().items()]
    lines += [f"    F_{name.upper()} = {code:#x}," for name, code in PIXEL_FORMATS.items()]
    lines += [f"    CHUNK_{name.upper()} = {number}," for number, (name, _) in enumerate(CHUNKS)]
    lines += [f"    CHUNKS = {len(CHUNKS)},", f"    SETS = {SETS},", "    MEMORY_BYTES = 0x1000,", "};"]
    return "\n".join(lines) + "\n"


def description() -> str:
    """The GenICam description (GenApi schema 1.1)."""
    registers = addresses()
    nodes = [_node(feature, registers[feature.name]) for feature in FEATURES]
    nodes += [_chunk(number, name, kind) for number, (name, kind) in enumerate(CHUNKS)]
    names = [feature.name for feature in FEATURES] + [f"Chunk{name}" for name, _ in CHUNKS]
    nodes.append(_ON_GEV)
    root = "".join(f"<pFeature>{name}</pFeature>" for name in names)
    return _document("StrobedCamera", f"{_category(root)}\n" + "\n".join(nodes), "Device")


def module_description(port: str) -> str:
    """That of a module of the producer: its ID and nothing else."""
    node = f'{_category(f"<pFeature>{port}ID</pFeature>")}\n<String Name="{port}ID"><Value>foilsight</Value></String>'
    return _document(port, node, port)


def _category(features: str) -> str:
    return f'<Category Name="Root" NameSpace="Standard">{features}</Category>'


def _document(model: str, nodes: str, port: str) -> str:
    return (
        '<?xml version="1.0" encoding="utf-8"?>\n'
        f'<RegisterDescription xmlns="http://www.genicam.org/GenApi/Version_1_1" ModelName="{model}" '
        'VendorName="Foilsight" StandardNameSpace="None" SchemaMajorVersion="1" SchemaMinorVersion="1" '
        'SchemaSubMinorVersion="0" MajorVersion="1" MinorVersion="0" SubMinorVersion="0" '
        'ProductGuid="11111111-2222-3333-4444-555555555555" VersionGuid="11111111-2222-3333-4444-555555555555">\n'
        f'{nodes}\n<Port Name="{port}"/>\n</RegisterDescription>\n'
    )


def _node(feature: Feature, address: int) -> str:
    mode = "RW" if feature.writable else "RO"
    if feature.kind == "string":
        return (
            f'<StringReg Name="{feature.name}" NameSpace="Standard"><Address>{address:#x}</Address>'
            f"<Length>{_STRING_BYTES}</Length><AccessMode>{mode}</AccessMode><pPort>Device</pPort></StringReg>"
        )
    register = f"{feature.name}Reg"
    value = f"<pValue>{register}</pValue>"
    selects = "".join(f"<pSelected>{name}</pSelected>" for name in feature.selects)
    if feature.kind == "enumeration":
        entries = "".join(_entry(name, number) for name, number in feature.entries)
        node = f'<Enumeration Name="{feature.name}" NameSpace="Standard">{entries}{value}{selects}</Enumeration>'
    else:
        tag = _TAGS[feature.kind]
        if feature.kind == "command":
            value += "<CommandValue>1</CommandValue>"
        elif feature.kind == "boolean":
            value += "<OnValue>1</OnValue><OffValue>0</OffValue>"
        elif feature.writable:
            value += _limits(feature)
        node = f'<{tag} Name="{feature.name}" NameSpace="Standard">{value}</{tag}>'
    return node + "\n" + _register(register, feature.kind, address, mode, "Device")


def _limits(feature: Feature) -> str:
    high = f"<pMax>{feature.high}</pMax>" if isinstance(feature.high, str) else f"<Max>{feature.high}</Max>"
    return f"<Min>{feature.low}</Min>{high}" + (f"<Inc>{feature.step}</Inc>" if feature.kind == "integer" else "")


def _entry(name: str, number: int) -> str:
    where = "<pIsImplemented>OnGigEVision</pIsImplemented>" if name in _ONLY_ON_GEV else ""
    return f"<EnumEntry Name={quoteattr(name)} NameSpace='Standard'>{where}<Value>{number}</Value></EnumEntry>"


def _register(name: str, kind: str, address: int, mode: str, port: str) -> str:
    tag, sign = ("FloatReg", "") if kind == "float" else ("IntReg", "<Sign>Signed</Sign>")
    return (
        f'<{tag} Name="{name}"><Address>{address:#x}</Address><Length>{_REGISTER_BYTES}</Length>'
        f"<AccessMode>{mode}</AccessMode><pPort>{port}</pPort><Cachable>NoCache</Cachable>{sign}"
        f"<Endianess>LittleEndian</Endianess></{tag}>"
    )


def _chunk(number: int, name: str, kind: str) -> str:
    tag, port, register = _TAGS[kind], f"{name}Port", f"Chunk{name}Reg"
    return (
        f'<{tag} Name="Chunk{name}" NameSpace="Standard"><pValue>{register}</pValue></{tag}>\n'
        f"{_register(register, kind, 0, 'RO', port)}\n"
        f'<Port Name="{port}"><ChunkID>{number + 1:08x}</ChunkID></Port>'
    )
