"""How many connections the scale benchmark opens, by the limits of the machine."""

from dataclasses import replace

from bench.limits import Limits

ROOMY = Limits(open_files=1_048_576, files_of_all=2_000_000, tracked=None, free_bytes=32 * 10**9)


def test_a_machine_with_room_holds_all() -> None:
    assert ROOMY.most(50_000) == (50_000, "")
    assert ROOMY.processes(50_000) == 1


def test_the_lowest_limit_counts_and_is_named() -> None:
    few_files = replace(ROOMY, open_files=20_000)
    assert few_files.most(50_000) == (19_680, "a process may open 20,000 files: raise `ulimit -Hn`")
    assert few_files.most(10_000) == (10_000, "")
    assert few_files.processes(19_680) == 1
    assert few_files.processes(50_000) == 3
    assert "nf_conntrack_max" in replace(few_files, tracked=30_000).most(50_000)[1]
    assert replace(ROOMY, free_bytes=10**9).most(50_000)[1] == "1.0 GB of memory are free"
    assert "fs.file-max" in replace(ROOMY, files_of_all=65_536).most(50_000)[1]


def test_a_limit_below_what_the_gateway_itself_needs_leaves_none() -> None:
    assert replace(ROOMY, open_files=256).most(50_000)[0] == 0
