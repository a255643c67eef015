"""For mkdocs.yml: how Griffe, which reads the sources and runs nothing, is to take them."""

import re

import griffe

RETURNS = re.compile(r'^Returns:\n +', re.MULTILINE)
SEVERAL = re.compile(r'^  ([*\w]+(?:, [*\w]+)+): (.*\n?(?:   .*\n?)*)', re.MULTILINE)

# What people look for first in a part of the package; other names follow as `__all__` has them.
FIRST = {
    'affinity': 'inter_task_affinity inter_task_affinities init update summary AffinitySummary',
    'comparison': 'compare_groupings Comparison summary dry_run',
    'data': 'from_arrays table Dataset Split union Source from_records from_stream',
    'gradients': 'task_gradients TaskGradients task_losses',
    'grouping': """
        group_tasks Result load dry_run recommended tag cosine_similarity spectral subsets
        linearised verify hoa esa exhaustive all_in_one single_task given from_affinities random
        random_even all_but_one pessimal Method Proposal Stage Searcher
    """,
    'objectives': """
        classification binary regression multilabel tokens segmentation pixel_regression judged_by
        Objective Metric
    """,
    'problem': 'from_linen from_nnx from_functions MultiTaskProblem Batch',
    'selection': 'select_groups select_networks serve Candidates Selection read_candidates',
    'training': 'TrainingConfig Measurement train_networks NetworkPlan TrainedNetwork Record',
    'weighting': """
        mgda_ub mgda equal fixed uncertainty gradnorm pcgrad cagrad upgrad imtl_g aligned_mtl
        nash_mtl fairgrad db_mtl dwa rlw famo stch diagnostics
    """,
}


class House(griffe.Extension):
    """Five things that Griffe would take otherwise than they are meant.

    `*methods.__all__` in the `__all__` of a package stands for names; Griffe reads them only where
    all packages above have an `__all__` as well. `tag_jax.weighting.mgda` is a function, and the
    module that it comes from has the same path: Python lets the import win, Griffe the module. In
    'A vector: ...' under Returns, Griffe takes 'A vector' for a type. And 'mean, error: ...'
    describes two things, each of a type of its own. And names in alphabetical order begin with what
    few people look for.
    """

    def on_package(self, *, pkg, **_):
        """Completes `__all__`, and puts what is imported in the place of modules of its name."""
        for package in pkg.modules.values():
            if package.exports is not None:
                package.exports = [name for one in package.exports for name in _names(package, one)]
            if package.name in FIRST:
                package.exports = _first(FIRST[package.name].split(), package)
            for name in map(str, package.exports or ()):
                for module in list(package.modules.values()):
                    if name in module.members and not module.members[name].is_alias:
                        alias = griffe.Alias(name, module.members[name], parent=package)
                        package.members[name] = alias

    def on_class_instance(self, *, cls, **_):
        """Gives each attribute an entry of its own."""
        if cls.docstring:
            cls.docstring.value = SEVERAL.sub(_apart, cls.docstring.value)

    def on_function_instance(self, *, func, **_):
        """Gives each parameter an entry of its own, and the result its type."""
        if func.docstring:
            text = SEVERAL.sub(_apart, func.docstring.value)
            returns = func.returns or 'object'
            func.docstring.value = RETURNS.sub(lambda match: f'{match[0]}{returns}: ', text)


def _names(package, exported):
    """The names that an entry of `__all__` stands for: itself, or those of a module in there."""
    if isinstance(exported, str):
        return [exported]
    return package.modules[exported.parent.name].exports


def _first(names, package):
    """The exports of a package, with some of them first."""
    if unknown := set(names) - set(package.exports):
        raise ValueError(f'{package.path} exports no {min(unknown)!r}')
    return names + [name for name in package.exports if name not in names]


def _apart(match):
    """One entry for each of several names: the same short text, or one that sends to the first."""
    first, *others = match[1].split(', ')
    text = match[2].rstrip('\n')
    again = f'see `{first}`.' if '\n' in text else text
    entries = [f'  {first}: {text}', *(f'  {name}: {again}' for name in others)]
    return '\n'.join(entries) + match[2][len(text) :]
