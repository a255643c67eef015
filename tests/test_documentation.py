"""What is public is documented: parameters, types, shapes, errors, sources; examples run.

Public are the names in the `__all__` of a part of the package, or those of a module without one
that have no underscore, and the public methods of public classes.
"""

import ast
import doctest
import importlib
import importlib.util
import inspect
import itertools
import pathlib
import pkgutil
import re
import textwrap

import pytest

import tag_jax

ROOT = pathlib.Path(__file__).parent.parent
PARTS = sorted(tag_jax._SUBMODULES)
MODULES = [found.name for found in pkgutil.walk_packages(tag_jax.__path__, 'tag_jax.')]
# (Launchers have flags of the same names, so that one process imports one of them.)
IMPORTED = [name for name in MODULES if not name.startswith('tag_jax.launchers.')]

# What is of no paper.
OWN = (
    'grouping.Searcher',
    'grouping.cost_of_encoder',
    'grouping.dry_run',
    'grouping.from_affinities',
    'grouping.given',
    'grouping.group_tasks',
    'grouping.recommended',
    'grouping.load',
    'grouping.random',
    'grouping.all_but_one',
    'grouping.random_even',
    'grouping.subsets',
    'grouping.verify',
    'models.MLP',
    'models.from_torchvision',
    'models.load_weights',
    'models.multiply_adds_of',
    'models.save_weights',
    'selection.additive_model',
    'selection.fit_additive_model',
    'selection.select_additive',
    'selection.all_groups',
    'selection.read_candidates',
    'studies.check',
)

ARRAY = re.compile(r'Array|ndarray')
SHAPE = re.compile(r'\[[^\]]*\]|\b(?:numbers?|scalar|ind(?:ex|ices))\b|\b(?:see|as) `')
YEAR = re.compile(r'\b(?:19|20)\d\d\b')
# Calls and imports that are no part of an example which is run.
NOT_RUN = re.compile(r'^ *(?:from \w+ import|import \w+|(?:\w+, )*\w+ = \w+(?:\.\w+)+\()', re.M)


def public(part):
    """`{name: function or class}` of a part, methods included."""
    module = importlib.import_module(f'tag_jax.{part}')
    own = [name for name, value in vars(module).items() if defined_in(value) == module.__name__]
    found = {}
    for name in getattr(module, '__all__', own):
        value = getattr(module, name)
        if name.startswith('_') or not callable(value):
            continue
        found[f'{part}.{name}'] = value
        for method, member in vars(value).items() if inspect.isclass(value) else ():
            if not method.startswith('_') and method not in fields(value):
                member = getattr(member, '__func__', getattr(member, 'fget', member))
                found[f'{part}.{name}.{method}'] = getattr(member, 'func', member)
    return found


def all_public():
    return list(itertools.chain(*(public(part).items() for part in PARTS)))


def functions():
    return [(name, value) for name, value in all_public() if not inspect.isclass(value)]


def classes():
    return [(name, value) for name, value in all_public() if inspect.isclass(value)]


def defined_in(value):
    return getattr(value, '__module__', None) or ''


def fields(cls):
    """`{name: annotation}` of a NamedTuple or dataclass."""
    if hasattr(cls, '_fields') or hasattr(cls, '__dataclass_fields__'):
        return {name: str(kind) for name, kind in inspect.get_annotations(cls).items()}
    return {}


def parameters(name, value):
    """`{name: annotation}` of what a caller gives; '' where there is none."""
    if inspect.isclass(value):
        value, name = vars(value).get('__init__'), f'{name}.__init__'
    given = list(inspect.signature(value).parameters.values()) if value else []
    given = given[1:] if name.count('.') > 1 else given
    known = lambda one: '' if one.annotation is one.empty else str(one.annotation)
    return {one.name: known(one) for one in given}


def entries(doc, title):
    """`{name: text}` of a section of a docstring; None if it has none."""
    section = re.search(rf'^{title}:\n((?: +.*\n|\n)*)', doc + '\n', re.MULTILINE)
    if not section:
        return None
    found = {}
    for names, text in re.findall(
        r'^  (\*{0,2}\w[\w*, ]*): ((?:.*\n)(?:   +.*\n|\n)*)', section[1], re.MULTILINE
    ):
        found |= dict.fromkeys(re.split(r'[ ,*]+', names.lstrip('*')), text)
    return found


def code_of(module):
    """The text of a module, by its name."""
    return pathlib.Path(importlib.util.find_spec(module).origin).read_text()


def source(function):
    return ast.parse(textwrap.dedent(inspect.getsource(inspect.unwrap(function))))


def raised(function):
    """Names of the errors that a function raises, by itself or in a function that it calls."""
    tree = source(function)
    names = inspect.unwrap(function).__globals__
    called = [
        names.get(node.func.id)
        for node in ast.walk(tree)
        if isinstance(node, ast.Call) and isinstance(node.func, ast.Name)
    ]
    own = [one for one in called if inspect.isfunction(one) and 'tag_jax' in defined_in(one)]
    found = set()
    for node in itertools.chain(*map(ast.walk, [tree, *map(source, own)])):
        if isinstance(node, ast.Raise) and isinstance(node.exc, ast.Call):
            found.add(getattr(node.exc.func, 'id', ''))
    return {name for name in found if name.endswith('Error') or name == 'Infeasible'}


def test_everything_without_an_underscore_has_a_docstring():
    missing = []
    for name in ['tag_jax', *MODULES]:
        tree = ast.parse(code_of(name))
        if not ast.get_docstring(tree):
            missing.append(name)
        nodes = [tree]
        for node in nodes:
            own = [n for n in node.body if isinstance(n, ast.FunctionDef | ast.ClassDef)]
            own = [n for n in own if not n.name.startswith('_')]
            missing += [f'{name}.{n.name}' for n in own if not ast.get_docstring(n)]
            nodes += [n for n in own if isinstance(n, ast.ClassDef)]
    assert not missing, '\n'.join(missing)


def test_parameters_are_documented():
    """In a section Args; the docstring of one without it names them all."""
    missing = []
    for name, value in all_public():
        doc, own = inspect.getdoc(value), fields(value)
        described = entries(doc, 'Attributes' if own else 'Args')
        for parameter in own or parameters(name, value):
            if described is None and re.search(rf'\b{parameter}\b', doc):
                continue
            if parameter not in (described or ()):
                missing.append(f'{name}: {parameter}')
    assert not missing, '\n'.join(missing)


def test_parameters_and_results_have_types():
    missing = []
    for name, value in functions():
        if inspect.signature(value).return_annotation is inspect.Signature.empty:
            missing.append(f'{name}: what it returns')
        missing += [f'{name}: {one}' for one, kind in parameters(name, value).items() if not kind]
    assert not missing, '\n'.join(missing)


def test_arrays_have_shapes():
    missing = []
    for name, value in all_public():
        doc, own = inspect.getdoc(value), fields(value)
        described = entries(doc, 'Attributes' if own else 'Args') or {}
        for parameter, kind in (own or parameters(name, value)).items():
            if ARRAY.search(kind) and not SHAPE.search(described.get(parameter, doc)):
                missing.append(f'{name}: {parameter}')
        if not inspect.isclass(value):
            kind = str(inspect.signature(value).return_annotation)
            head, _, returns = doc.partition('\nReturns:')
            text = returns.partition('\nRaises:')[0] or head.partition('\nArgs:')[0]
            if ARRAY.search(kind) and not SHAPE.search(text):
                missing.append(f'{name}: what it returns')
    assert not missing, '\n'.join(missing)


def test_errors_are_documented():
    missing = []
    for name, value in functions():
        _, _, section = inspect.getdoc(value).partition('Raises')
        missing += [f'{name}: {error}' for error in raised(value) if error not in section]
    assert not missing, '\n'.join(missing)


def test_methods_name_their_source():
    """The paper, by its year: in the docstring of a function, or of the module it stands in."""
    missing = []
    for part in ('affinity', 'grouping', 'models', 'selection', 'studies', 'weighting'):
        for name, value in public(part).items():
            if fields(value) or (isinstance(value, type) and issubclass(value, Exception)):
                continue
            texts = [inspect.getdoc(value), importlib.import_module(defined_in(value)).__doc__]
            if name.count('.') == 1 and name not in OWN and not any(map(YEAR.search, texts)):
                missing.append(name)
    assert not missing, '\n'.join(missing)


def test_weightings_say_what_they_cost_and_when_they_fail():
    missing = []
    for name, value in public('weighting').items():
        returns = inspect.signature(value).return_annotation
        if not name.endswith('.weighting') and 'GradientTransformation' in str(returns):
            doc = inspect.getdoc(value)
            missing += [f'{name}: {word}' for word in ('Cost:', 'Limits:') if word not in doc]
    assert not missing, '\n'.join(missing)


@pytest.mark.parametrize('name', IMPORTED)
def test_examples_run(name):
    module = importlib.import_module(name)
    failed, _ = doctest.testmod(module, optionflags=doctest.ELLIPSIS)
    assert not failed


def test_no_example_is_left_out():
    for name in MODULES:
        for node in ast.walk(ast.parse(code_of(name))):
            if isinstance(node, ast.Module | ast.FunctionDef | ast.ClassDef):
                doc = ast.get_docstring(node) or ''
                assert not NOT_RUN.search(doc), f'{name}: {doc}'


def test_every_part_and_every_page_has_its_place():
    pages = {str(path.relative_to(ROOT / 'docs')) for path in (ROOT / 'docs').rglob('*.md')}
    assert {f'api/{part}.md' for part in PARTS} | {'api/index.md'} == {
        page for page in pages if page.startswith('api/')
    }
    for part in PARTS:
        assert f'::: tag_jax.{part}\n' in (ROOT / 'docs' / 'api' / f'{part}.md').read_text()
    listed = re.findall(
        r'^ +- (?:.*: )?(\S+\.md)$', (ROOT / 'mkdocs.yml').read_text(), re.MULTILINE
    )
    notebooks = {f'notebooks/{path.stem}.md' for path in (ROOT / 'notebooks').glob('*.ipynb')}
    assert sorted(listed) == sorted(pages | notebooks)


def test_no_snippet_of_a_page_is_left_out():
    """test_readme.py runs those of these pages."""
    pages = [ROOT / 'CHANGELOG.md', *(ROOT / 'docs').rglob('*.md')]
    found = {page.name for page in pages if '```' in page.read_text()}
    shown = {'other_libraries.md', 'results.md', 'limits.md'}
    assert not found & shown
    assert found == {
        'budgets.md',
        'frozen.md',
        'grouping.md',
        'larger.md',
        'linen.md',
        'loggers.md',
        'methods.md',
        'own_loop.md',
        'runs.md',
        'sources.md',
        'your_model.md',
    }


def test_one_version():
    assert f'\nversion: {tag_jax.__version__}\n' in (ROOT / 'CITATION.cff').read_text()
    assert f'\n## {tag_jax.__version__}' in (ROOT / 'CHANGELOG.md').read_text()


def test_names_of_papers_exist():
    """Each name that stands for a word of a paper, and each option that it is said to have."""
    page = (ROOT / 'docs' / 'names_of_papers.md').read_text()
    names = re.findall(rf'`((?:{"|".join(PARTS)})\.\w+)`', page)
    assert len(names) > 60
    for name in names:
        part, _, attribute = name.partition('.')
        assert hasattr(importlib.import_module(f'tag_jax.{part}'), attribute), name
    heads = '| in the paper | here |', '| --- | --- |'
    rows = [line for line in page.splitlines() if line.startswith('| ') and line not in heads]
    assert all('`' in row.split(' | ')[1] for row in rows)
