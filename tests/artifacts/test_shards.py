"""Large weights that go up as shards: the bits, the index, the choice of sizes, and the way through the pipeline."""

import io
import json
import math
import shutil

import numpy as np
import pytest
import safetensors
from hypothesis import given, settings
from hypothesis import strategies as st
from safetensors.numpy import load_file, save_file
from support.checkpoints import (
    llama_tensors,
    make_adapter,
    make_embedder,
    make_llama,
    read_json,
    save_weights,
    write_json,
)
from support.planning import CountingStore, RemoteStore, names, plan, read_file, source_of

from mlflow_fireworks.artifacts.checkpoint import Checkpoint
from mlflow_fireworks.artifacts.content import Stored
from mlflow_fireworks.artifacts.excerpt import Splice
from mlflow_fireworks.artifacts.safetensors import Header, read_header
from mlflow_fireworks.artifacts.selection import Weights
from mlflow_fireworks.artifacts.shards import divide_weights
from mlflow_fireworks.artifacts.sources.folder import FolderStore
from mlflow_fireworks.config import Kind

INDEX = "model.safetensors.index.json"
WIDTHS = {"F64": 8, "F32": 4, "I64": 8, "BF16": 2, "F16": 2, "F8_E4M3": 1, "F8_E5M2": 1, "U8": 1, "BOOL": 1}


def write_safetensors(path, tensors, *, metadata=None, pad=0):
    """By hand, because the library sorts and aligns: tensors (name, dtype, shape) in the order given, the JSON not."""
    random = np.random.default_rng(len(tensors))
    entries, data = {}, b""
    for name, dtype, shape in tensors:
        count = math.prod(shape) * WIDTHS[dtype]
        content = random.integers(0, 2 if dtype == "BOOL" else 256, count, np.uint8).tobytes()
        entries[name] = {"dtype": dtype, "shape": list(shape), "data_offsets": [len(data), len(data) + count]}
        data += content
    entries = dict(random.permutation(list(entries.items())).tolist())
    text = json.dumps(({"__metadata__": metadata} if metadata else {}) | entries).encode() + b" " * pad
    path.write_bytes(len(text).to_bytes(8, "little") + text + data)
    return path


def tensors_of(data):
    """What the safetensors library reads: name to dtype, shape and raw bytes."""
    return {name: (t["dtype"], tuple(t["shape"]), bytes(t["data"])) for name, t in safetensors.deserialize(data)}


def divide(path, shard_size):
    """The shards of one file by name, and the index if it was divided."""
    name = "model.safetensors"
    stored = Stored(FolderStore(path.parent), path.name, path.stat().st_size)
    header = read_header(lambda count: path.read_bytes()[:count], stored.size)
    assert isinstance(header, Header)
    whole = Checkpoint(Kind.BASE, {name: stored}, {"": Weights((name,))}, {}, {}, {})
    divided = divide_weights(whole, {name: header}, shard_size, None)
    return {file: divided.files[file] for file in divided.weight_names()}, divided.contents.get(INDEX)


shapes = st.lists(st.integers(0, 5), max_size=3)
tensor_lists = st.lists(st.tuples(st.sampled_from(sorted(WIDTHS)), shapes), min_size=1, max_size=12).filter(
    lambda tensors: any(math.prod(shape) for _, shape in tensors)
)


@settings(max_examples=150, deadline=None)
@given(tensors=tensor_lists, size=st.integers(1, 400), pad=st.integers(0, 9), tagged=st.booleans())
def test_any_file_survives_any_division(tmp_path_factory, tensors, size, pad, tagged):
    """Every dtype by its raw bytes, scalars, empty tensors, unsorted and unaligned originals."""
    listed = [(f"tensor ü {number}", dtype, shape) for number, (dtype, shape) in enumerate(tensors)]
    metadata = {"format": "pt"} if tagged else None
    path = write_safetensors(tmp_path_factory.mktemp("f") / "x.safetensors", listed, metadata=metadata, pad=pad)
    original = path.read_bytes()
    shards, index = divide(path, size)

    if index is None:
        assert [shard.read() for shard in shards.values()] == [original]
        return
    contents = {name: shard.read() for name, shard in shards.items()}
    assert [len(content) for content in contents.values()] == [shard.size for shard in shards.values()]
    read = {name: tensors_of(content) for name, content in contents.items()}
    assert {key: value for part in read.values() for key, value in part.items()} == tensors_of(original)
    assert json.loads(index)["weight_map"] == {key: name for name, part in read.items() for key in part}
    begin = 8 + int.from_bytes(original[:8], "little")
    assert json.loads(index)["metadata"]["total_size"] == len(original) - begin
    assert sum(map(len, read.values())) == len(listed)
    for content in contents.values():
        full = [tensor for _, _, tensor in tensors_of(content).values() if tensor]
        assert len(full) == 1 or sum(map(len, full)) <= size
        length = int.from_bytes(content[:8], "little")
        header = json.loads(content[8 : 8 + length])
        assert length % 8 == 0
        assert header.pop("__metadata__", None) == metadata
        assert_alignment_is_kept(header, json.loads(original[8:begin]))


def assert_alignment_is_kept(header, original):
    for name, entry in header.items():
        width = WIDTHS[entry["dtype"]]
        if entry["data_offsets"][0] % width and 0 not in entry["shape"]:
            assert original[name]["data_offsets"][0] % width


def test_shards_are_as_large_as_asked_and_larger_tensors_are_alone(tmp_path):
    tensors = [(f"t{number}", "U8", (100,)) for number in range(10)]
    tensors.insert(3, ("huge", "U8", (5000,)))
    shards, index = divide(write_safetensors(tmp_path / "x.safetensors", tensors), 600)

    where = json.loads(index)["weight_map"]
    assert [key for key, name in where.items() if name == where["huge"]] == ["huge"]
    assert max(len(tensors_of(shard.read())) for shard in shards.values()) <= 6
    assert list(shards) == [f"model-{n:05d}-of-{len(shards):05d}.safetensors" for n in range(1, len(shards) + 1)]


GIB = 2**30


@pytest.mark.parametrize(
    ("option", "sizes", "count"),
    [
        ("auto", [GIB // 2], 1),
        ("auto", [GIB - 2**20], 1),
        ("auto", [2 * GIB], 16),
        ("auto", [16 * GIB], 32),
        ("auto", [300 * GIB], 32),
        ("auto", [4 * GIB] * 4, 4),
        ("auto", [46 * GIB] * 3, 32),
        ("auto", [46 * GIB, 2 * GIB], 32),
        ("off", [300 * GIB], 1),
        (GIB, [GIB // 2], 1),
        (GIB, [4 * GIB], 4),
        (GIB, [4 * GIB, GIB // 2], 5),
    ],
)
def test_number_of_shards_fits_the_size(option, sizes, count):
    """From headers alone: no such files are made."""
    files = {f"f{number}": size for number, size in enumerate(sizes)}
    if len(files) == 1:
        files = {"model.safetensors": sizes[0]}
    begin, step, headers = 2**16, 2**24, {}
    for name, size in files.items():
        places = {f"{name}.{n}": (begin + n * step, begin + (n + 1) * step) for n in range(size // step)}
        kinds = dict.fromkeys(places, "F16")
        headers[name] = Header(dict.fromkeys(places, (2**23,)), kinds, places, begin + len(places) * step)
    parts = {name: Stored(FolderStore("/nowhere"), name, header.size) for name, header in headers.items()}
    weights = Weights(tuple(files), None if len(files) == 1 else INDEX)
    whole = Checkpoint(Kind.BASE, parts, {"": weights}, {}, {}, {})

    divided = divide_weights(whole, headers, option, None)

    assert count <= len(divided.weight_names()) <= count + 3
    assert (divided is whole) == (count == len(sizes))
    largest = max(divided.files[name].size for name in divided.weight_names())
    assert largest <= max(5.001 * 10**9, 1.1 * sum(sizes) / 32) or option == "off"


def write_out(manifest, folder):
    """What Fireworks would have."""
    for file in manifest.files:
        target = folder / file.name
        target.parent.mkdir(parents=True, exist_ok=True)
        target.write_bytes(read_file(manifest, file.name))
        assert target.stat().st_size == file.size
    return folder


def load_all(folder):
    return {key: value for path in folder.glob("*.safetensors") for key, value in load_file(path).items()}


def assert_same_tensors(folder, original):
    loaded, expected = load_all(folder), load_all(original)
    assert loaded.keys() == expected.keys()
    for name, tensor in expected.items():
        assert loaded[name].dtype == tensor.dtype
        assert loaded[name].tobytes() == tensor.tobytes()


def test_checkpoint_goes_up_as_shards_with_the_same_tensors(tmp_path):
    folder = make_llama(tmp_path / "m", layers=4)
    manifest = plan(folder, shard_size="10KB")

    shards = [name for name in names(manifest) if name.endswith(".safetensors")]
    assert len(shards) > 3
    assert "model.safetensors" not in names(manifest)
    assert manifest.facts == plan(folder).facts
    index = json.loads(read_file(manifest, INDEX))
    assert index["metadata"] == {
        "total_parameters": manifest.facts.parameter_count,
        "total_size": sum(tensor.nbytes for tensor in llama_tensors(layers=4).values()),
    }
    assert set(index["weight_map"].values()) == set(shards)
    assert_same_tensors(write_out(manifest, tmp_path / "flat"), folder)
    [note] = [note for note in manifest.notes if "shards" in note]
    assert note.startswith("model.safetensors (")
    assert f"are uploaded as {len(shards)} shards" in note
    assert "shard_size=off" in note


def test_large_files_of_a_sharded_checkpoint_are_divided_and_the_others_kept(tmp_path):
    folder = make_llama(tmp_path / "m", shards=2)
    save_weights(tmp_path / "extra", {"extra.weight": np.ones((4, 4), np.float16)})
    shutil.move(tmp_path / "extra" / "model.safetensors", folder / "model-extra.safetensors")
    index = read_json(folder / INDEX)
    index["weight_map"]["extra.weight"] = "model-extra.safetensors"
    write_json(folder / INDEX, index)
    manifest = plan(folder, shard_size="8KB")

    assert sum(name.endswith(".safetensors") for name in names(manifest)) > 3
    assert_same_tensors(write_out(manifest, tmp_path / "flat"), folder)
    extra = json.loads(read_file(manifest, INDEX))["weight_map"]["extra.weight"]
    assert read_file(manifest, extra) == (folder / "model-extra.safetensors").read_bytes()


@pytest.mark.torch
@pytest.mark.parametrize("shard_size", ["2KB", "30KB"])
def test_transformers_loads_the_shards_with_identical_logits(tmp_path, shard_size):
    import torch
    import transformers

    original = make_llama(tmp_path / "m", layers=3)
    divided = write_out(plan(original, shard_size=shard_size), tmp_path / "flat")
    assert not (divided / "model.safetensors").exists()

    def run(folder):
        model = transformers.AutoModelForCausalLM.from_pretrained(folder)
        tokens = transformers.AutoTokenizer.from_pretrained(folder)("hello there", return_tensors="pt")
        with torch.no_grad():
            return model(**tokens).logits, model.state_dict()

    (logits, weights), (expected_logits, expected_weights) = run(divided), run(original)
    assert torch.equal(logits, expected_logits)
    assert weights.keys() == expected_weights.keys()
    assert all(torch.equal(weights[name], tensor) for name, tensor in expected_weights.items())


def test_embedder_keeps_its_other_modules_whole(tmp_path):
    folder = make_embedder(tmp_path / "m")
    modules = json.loads((folder / "modules.json").read_text())
    dense = {"idx": 2, "name": "2", "path": "2_Dense", "type": "sentence_transformers.models.Dense"}
    (folder / "modules.json").write_text(json.dumps([*modules, dense]))
    save_weights(folder / "2_Dense", {"linear.weight": np.ones((64, 64), np.float32)})
    write_json(folder / "2_Dense" / "config.json", {"in_features": 64, "out_features": 64})
    found = names(plan(folder, shard_size="8KB"))

    assert "2_Dense/model.safetensors" in found
    assert INDEX in found
    assert "model.safetensors" not in found


def test_adapter_is_never_divided(tmp_path):
    manifest = plan(make_adapter(tmp_path / "m"), shard_size="1KB")
    assert names(manifest) == ["adapter_config.json", "adapter_model.safetensors"]


def test_large_file_is_divided_by_itself_except_for_an_import(tmp_path):
    folder = make_llama(tmp_path / "m")
    entries = {
        f"model.blocks.{number}.weight": {
            "dtype": "F16",
            "shape": [2**25],
            "data_offsets": [number * 2**26, (number + 1) * 2**26],
        }
        for number in range(20)
    }
    text = json.dumps(entries).encode()
    with (folder / "model.safetensors").open("wb") as file:
        file.write(len(text).to_bytes(8, "little") + text)
        file.truncate(8 + len(text) + 20 * 2**26)  # sparse
    source = source_of(folder, identity="m-1")

    assert sum(name.endswith(".safetensors") for name in names(plan(source))) == 10
    for options in ({"transfer": "import"}, {"shard_size": "off"}):
        assert "model.safetensors" in names(plan(source, **options))


def test_remote_shards_without_known_headers_are_left_as_they_are(tmp_path):
    folder = make_llama(tmp_path / "m", shards=2)
    store = RemoteStore(folder, tmp_path)
    manifest = plan(source_of(folder, store, identity="m-1"), shard_size="1KB")
    assert sum(name.endswith(".safetensors") for name in names(manifest)) == 2


@pytest.mark.parametrize("count", [32, 33, 60])
def test_more_files_than_fireworks_is_known_to_take_are_merged(tmp_path, count):
    folder = make_llama(tmp_path / "m", shards=count, layers=8)
    manifest = plan(folder)
    weights = [file for file in manifest.files if file.name.endswith(".safetensors")]
    assert len(weights) <= 32
    assert (len(weights) == count) == (count <= 32)
    assert manifest.facts == plan(folder, shard_size="off").facts
    assert any(f"{count} files (" in note and "shard_size=off" in note for note in manifest.notes) == (count > 32)
    merged = write_out(manifest, tmp_path / "flat")
    original = {name: tensor for path in folder.glob("*.safetensors") for name, tensor in load_file(path).items()}
    found = {name: tensor for path in merged.glob("*.safetensors") for name, tensor in load_file(path).items()}
    assert found.keys() == original.keys()
    assert all(np.array_equal(found[name], tensor) for name, tensor in original.items())
    index = read_json(merged / INDEX)["weight_map"]
    assert all(name in load_file(merged / file) for name, file in index.items())
    assert not any("37" in warning for warning in manifest.warnings)
    assert names(plan(folder)) == names(manifest)


def test_wide_elements_of_merged_files_stay_aligned(tmp_path):
    folder = make_llama(tmp_path / "m", shards=40, layers=8)
    index = read_json(folder / INDEX)
    for number, path in enumerate(sorted(folder.glob("*.safetensors"))):
        tensors = {**load_file(path), f"odd.{number}": np.ones(3 + number, np.uint8)}
        save_file(tensors, path, metadata={"format": "pt"})
        index["weight_map"] |= dict.fromkeys(tensors, path.name)
    write_json(folder / INDEX, index)
    merged = write_out(plan(folder), tmp_path / "flat")
    assert len(list(merged.glob("*.safetensors"))) <= 32
    for path in merged.glob("*.safetensors"):
        header = read_header(lambda count, path=path: path.read_bytes()[:count], path.stat().st_size)
        assert all(place % 4 == 0 for name, (place, _) in header.places.items() if header.dtypes[name] == "F32")


def test_files_that_cannot_be_merged_are_left_with_a_warning(tmp_path):
    folder = make_llama(tmp_path / "m", shards=40, layers=8)
    manifest = plan(source_of(folder, RemoteStore(folder, tmp_path), identity="m-1"))
    assert sum(name.endswith(".safetensors") for name in names(manifest)) == 40
    assert any("the weights are 40 files, and Fireworks was seen to refuse 37" in text for text in manifest.warnings)


def test_fingerprint_depends_on_the_division_and_not_on_how_it_was_asked_for(tmp_path):
    folder = make_llama(tmp_path / "m")
    whole = plan(folder).fingerprint
    assert plan(folder, shard_size="off").fingerprint == whole
    assert plan(folder, shard_size="1GB").fingerprint == whole
    divided = plan(folder, shard_size="10KB").fingerprint
    assert divided != whole
    assert plan(folder, shard_size="5KB").fingerprint not in (whole, divided)
    shutil.copytree(folder, tmp_path / "copy")
    assert plan(tmp_path / "copy", shard_size=10_000).fingerprint == divided


def test_original_is_read_once_for_the_fingerprint_of_all_its_shards(tmp_path):
    folder = make_llama(tmp_path / "m")
    store = CountingStore(folder)
    plan(source_of(folder, store), shard_size="1KB")
    assert store.staged_names == ["model.safetensors"]
    pinned = CountingStore(folder)
    plan(source_of(folder, pinned, identity="m-1"), shard_size="1KB")
    assert pinned.staged_names == []


class CountingFile(io.FileIO):
    """Remembers how long every read was."""

    def __init__(self, path):
        super().__init__(path)
        self.reads = []

    def read(self, size=-1):
        self.reads.append(size)
        return super().read(size)


def splice(path, header, *pieces, open_file=lambda path: path.open("rb")):
    """Of one file; pieces are beginning and length."""
    opened = []

    def open_part(begin, end):
        opened.append((begin, end))
        return open_file(path)

    file = Stored(None, path.name, path.stat().st_size)
    cut = [piece for begin, length in pieces for piece in file.cut(begin, begin + length)]
    return Splice(header, cut, {file: open_part}), opened


def test_large_reads_are_single_reads_of_the_file(tmp_path):
    size = 2**20
    content = np.random.default_rng(0).bytes(4 * size)
    (tmp_path / "f").write_bytes(content)
    file = CountingFile(tmp_path / "f")
    spliced, _ = splice(tmp_path / "f", b"header", (size, 2 * size + 5), open_file=lambda _: file)
    with spliced as opened:
        expected = b"header" + content[size : 3 * size + 5]
        assert b"".join(iter(lambda: opened.read(size), b"")) == expected
        assert file.reads == [size, size, 5]
    assert file.closed


def test_splice_behaves_as_a_file(tmp_path):
    (tmp_path / "f").write_bytes(bytes(range(100)))
    spliced, _ = splice(tmp_path / "f", b"head", (10, 5), (50, 0), (90, 10))
    with spliced as opened:
        expected = b"head" + bytes(range(10, 15)) + bytes(range(90, 100))
        assert opened.read() == expected
        assert opened.read(1) == opened.read() == b""
        for start in range(len(expected) + 2):
            assert opened.seek(start) == opened.tell() == start
            assert b"".join(iter(lambda: opened.read(7), b"")) == expected[start:]
        assert opened.seek(-3, io.SEEK_END) == len(expected) - 3
        buffer = bytearray(8)
        assert opened.readinto(buffer) == 3
        assert buffer == expected[-3:] + bytes(5)
        with pytest.raises(ValueError, match="no byte -1"):
            opened.seek(-1)
    assert opened.closed


def test_pieces_that_lie_close_together_are_one_opening_and_others_are_not(tmp_path):
    (tmp_path / "f").write_bytes(bytes(5 * 2**20))
    spliced, asked = splice(tmp_path / "f", b"", (10, 5), (15, 5), (30, 10), (4 * 2**20, 7), (0, 3))
    with spliced as opened:
        assert opened.read() == bytes(30)
    assert asked == [(10, 40), (4 * 2**20, 4 * 2**20 + 7), (0, 3)]


def test_file_cut_short_under_a_shard_reads_short(tmp_path):
    """So that the upload notices, as it does with a plain file."""
    (tmp_path / "f").write_bytes(bytes(50))
    spliced, _ = splice(tmp_path / "f", b"head", (10, 90))
    with spliced as opened:
        assert opened.read() == b"head" + bytes(40)
        assert opened.read(1) == b""
