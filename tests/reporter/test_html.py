"""The HTML report as a file: whole, safe, small. What it does is tested in a browser."""

import json
import re
from html.parser import HTMLParser
from importlib.resources import files

import pytest

from opcount import Profile
from opcount.cost import Cost
from opcount.errors import ConventionError
from opcount.profile import Module, Record
from opcount.reporter.html import frame, render
from opcount.reporter.page.bundle import bundle

SOURCES = [file for file in files("opcount.reporter.page").iterdir() if file.name.endswith(".js")]


def profile(name="fc", macs=100):
    modules = {"": Module("", "Net", 8, 1), name: Module(name, "Linear", 8, 1)}
    record = Record(("", name), "aten.mm.default", "matmul", "forward", "float32", 1, Cost(macs, 2, 3))
    return Profile((record,), modules)


class Tags(HTMLParser):
    def __init__(self, page):
        super().__init__()
        self.tags = []
        self.feed(page)

    def handle_starttag(self, tag, attrs):
        self.tags.append((tag, dict(attrs)))


def data_of(page):
    return json.loads(re.search(r'id="data">(.*?)</script>', page, re.DOTALL)[1])


def test_the_page_without_data_is_small_and_ascii():
    page = render(Profile())
    assert len(page) < 150_000
    assert page.isascii()


def test_the_page_names_no_other_file_and_no_address():
    page = render(profile())
    assert re.findall(r"https?://|@import|\burl\(|\bfetch\(|XMLHttpRequest|\bimport\b", page) == []
    assert [attrs for tag, attrs in Tags(page).tags if "src" in attrs or tag == "iframe"] == []
    assert [attrs["href"] for tag, attrs in Tags(page).tags if tag == "link"] == ["data:,"]


def test_the_policy_allows_the_page_itself_and_nothing_else():
    (policy,) = [attrs["content"] for tag, attrs in Tags(render(profile())).tags if "http-equiv" in attrs]
    assert policy.startswith("default-src 'none'")
    assert "unsafe" not in policy


@pytest.mark.parametrize(
    "name", ["<script>", "</script>", "<!--", "]]>", "{{data}}", "{{script}}", "a\ud800b", "\u2028", "&lt;"]
)
def test_a_module_may_have_any_name(name):
    page = render(profile(name), title=name)
    assert data_of(page)["modules"][1]["name"] == name
    assert [tag for tag, _ in Tags(page).tags].count("script") == 2
    assert page.isascii()


def test_whole_numbers_beyond_javascripts_go_as_text():
    data = data_of(render(profile(macs=2**53)))
    assert data["records"]["macs"] == [str(2**53)]
    assert data_of(render(profile(macs=2**53 - 1)))["records"]["macs"] == [2**53 - 1]


def test_without_scripts_the_totals_remain():
    assert "total: 100 MAC" in render(profile())


def test_profiles_of_two_conventions_are_not_compared():
    with pytest.raises(ConventionError, match="expected two profiles of one convention"):
        render(profile(), baseline=profile().with_convention("full"))


def test_a_notebook_gets_a_frame_that_may_do_nothing_but_run():
    text = frame(profile("<b>"))
    ((_, attrs),) = [row for row in Tags(text).tags if row[0] == "iframe"]
    assert attrs["sandbox"] == "allow-scripts allow-downloads"
    assert data_of(attrs["srcdoc"])["modules"][1]["name"] == "<b>"
    assert "&lt;b&gt;" in text.partition("<pre>")[2]


def test_a_title_of_ones_own_else_the_models_type():
    assert "<title>Net</title>" in render(profile())
    assert "<title>ours</title>" in render(profile(), title="ours")
    assert "<title>opcount</title>" in render(Profile())


@pytest.mark.parametrize("file", SOURCES, ids=lambda file: file.name)
def test_a_script_imports_what_is_exported_and_uses_it(file):
    text = file.read_text()
    for names, module in re.findall(r'^import \{ (.+?) \} from "\./(\w+)\.js";$', text, re.MULTILINE):
        source = files("opcount.reporter.page").joinpath(f"{module}.js").read_text()
        for name in names.split(", "):
            assert re.search(rf"^export (const|function\*?) {name}\b", source, re.MULTILINE), (
                f"{module}.js has no {name}"
            )
            assert len(re.findall(rf"\b{name}\b", text)) > 1, f"{name} is not used"


def test_every_script_is_part_of_the_page():
    page = render(Profile())
    for file in SOURCES:
        assert file.read_text().splitlines()[0] in page


def test_a_bundle_gives_each_module_a_scope_and_its_imports():
    sources = {
        "main.js": 'import { a } from "./x.js";\nimport { b } from "./y.js";\nconst hidden = a + b;\n',
        "x.js": "const hidden = 1;\nexport const a = hidden;\n",
        "y.js": 'import { a } from "./x.js";\nexport function b() { return a; }\n',
    }
    text = bundle("main.js", sources.__getitem__)
    assert [text.index(f"const ${name} =") for name in ("x", "y", "main")] == sorted(
        text.index(f"const ${name} =") for name in ("x", "y", "main")
    )
    assert text.count("const $x =") == 1
    assert "const { a } = $x;" in text
    assert "return { b };" in text


@pytest.mark.parametrize(
    "line", ['import x from "./x.js";', 'import "./x.js";', "export default 1;", "export let a = 1;", "export { a };"]
)
def test_a_bundle_refuses_what_it_would_not_translate(line):
    with pytest.raises(ValueError, match="expected named imports and exports"):
        bundle("main.js", {"main.js": line}.__getitem__)


def test_a_bundle_refuses_a_circle():
    sources = {"a.js": 'import { b } from "./b.js";\n', "b.js": 'import { a } from "./a.js";\n'}
    with pytest.raises(ValueError, match=r"no circle of imports, got a\.js -> b\.js -> a\.js"):
        bundle("a.js", sources.__getitem__)
