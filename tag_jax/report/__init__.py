"""Tables and pictures: of a finished run, of selections over budgets, of weightings side by side.

`report.write('runs/mine')` draws affinity.png, groups.png, curves.png, predictions.png where labels
are images, and report.html, and returns the table.
"""

from tag_jax.report.benchmark import LEADERBOARD, leaderboard_figure, write_benchmark
from tag_jax.report.comparison import (
    BUDGETS,
    COSTS,
    budgets_figure,
    comparison_table,
    correlations_table,
    costs_figure,
    optimum_sentence,
    write_comparison,
)
from tag_jax.report.configs import measured_sentence
from tag_jax.report.counterexample import COUNTEREXAMPLE, counterexample_figure
from tag_jax.report.differences import covers_sentence, differences_text
from tag_jax.report.figures import (
    CURVES,
    DIAGRAM,
    HEAT_MAP,
    affinity_figure,
    curves_figure,
    groups_figure,
)
from tag_jax.report.multi_objective import (
    RADAR,
    SCATTER,
    multi_objective_table,
    radar_figure,
    scatter_figure,
    write_multi_objective,
)
from tag_jax.report.own_loops import drift_figure, kinds_figure, losses_figure
from tag_jax.report.pictures import (
    PREDICTIONS,
    images_figure,
    methods_figure,
    pictured_tasks,
    predictions_figure,
)
from tag_jax.report.run import (
    REPORT,
    FinishedRun,
    html_page,
    read,
    write,
)
from tag_jax.report.runs import by_settings, runs_page, runs_text, write_runs
from tag_jax.report.selections import selection_record, solutions_text
from tag_jax.report.studies import write_study
from tag_jax.report.trade_off import (
    choices_figure,
    choices_table,
    notation,
    totals_table,
    trade_off_figure,
    write_trade_off,
)
from tag_jax.report.transfer import (
    TRANSFER,
    compare_transfer,
    transfer_figure,
    transfer_sentence,
)
from tag_jax.report.words import (
    dry_run_text,
    gain_sentence,
    group_lines,
    result_text,
)

__all__ = [
    'BUDGETS',
    'COSTS',
    'COUNTEREXAMPLE',
    'CURVES',
    'DIAGRAM',
    'HEAT_MAP',
    'LEADERBOARD',
    'PREDICTIONS',
    'RADAR',
    'REPORT',
    'SCATTER',
    'TRANSFER',
    'FinishedRun',
    'affinity_figure',
    'budgets_figure',
    'by_settings',
    'choices_figure',
    'choices_table',
    'compare_transfer',
    'comparison_table',
    'correlations_table',
    'costs_figure',
    'counterexample_figure',
    'covers_sentence',
    'curves_figure',
    'differences_text',
    'drift_figure',
    'dry_run_text',
    'gain_sentence',
    'group_lines',
    'groups_figure',
    'html_page',
    'images_figure',
    'kinds_figure',
    'leaderboard_figure',
    'losses_figure',
    'measured_sentence',
    'methods_figure',
    'multi_objective_table',
    'notation',
    'optimum_sentence',
    'pictured_tasks',
    'predictions_figure',
    'radar_figure',
    'read',
    'result_text',
    'runs_page',
    'runs_text',
    'scatter_figure',
    'selection_record',
    'solutions_text',
    'totals_table',
    'trade_off_figure',
    'transfer_figure',
    'transfer_sentence',
    'write',
    'write_benchmark',
    'write_comparison',
    'write_multi_objective',
    'write_runs',
    'write_study',
    'write_trade_off',
]
