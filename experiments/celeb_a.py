"""Attributes of faces: task grouping (Fifty et al. 2021) and MGDA-UB (Sener & Koltun 2018).

    python -m experiments.celeb_a --data_dir=DIR --budget=2

groups the nine attributes of Fifty et al. by TAG, with their network and settings: a small ResNet,
batches of 256, SGD with momentum at 0.0005, halved every 15 epochs, stopped after 10 epochs without
a better validation error, 100 at most. All other methods come with --method. The paper's total test
errors, in percent (Figure 2 left; Tables 4 to 7):

    networks       2      3      4
    TAG        49.66  49.52  49.49
    HOA        49.73  49.73  49.73
    CS         49.86  50.63  49.51
    optimal    49.37  48.92  48.57      MTL 50.00, STL 49.99 (the errors of its tasks sum to 50.96)

Several budgets and seeds side by side, with the networks of the exhaustive search in one folder:

    python -m experiments.compare_groupings --dataset=celeb_a_9 --data_dir=DIR --scores=DIR/networks

(docs/papers.md has the command for GradNorm, whose alpha the paper searched.)

    python -m experiments.celeb_a --data_dir=DIR --attributes=40 --compare

compares ways of weighting all 40 attributes as Sener & Koltun do: ResNet-18, 100 epochs of batches
of 256, SGD with momentum, halved every 30 epochs, learning rates chosen on validation. The paper's
mean errors (Table 1): single task 8.77, uniform scaling 9.62, uncertainty 9.53, GradNorm 8.44,
MGDA-UB 8.25.

DIR is a data directory of TensorFlow Datasets with `celeb_a` prepared as array_record; the error
that says that it is not tells how to do it. (Nothing here has been run on CelebA itself.)
"""

from absl import flags

from experiments import paper
from tag_jax.launchers import launch

flags.DEFINE_enum('attributes', '9', ['9', '40'], 'Of Fifty et al., or of Sener & Koltun.')
flags.adopt_module_key_flags(paper)

FLAGS = flags.FLAGS


def main():
    if FLAGS.attributes == '9':
        paper.run('celeb_a_9')
    else:
        paper.run('celeb_a', paper.SENER_RATES)


if __name__ == '__main__':
    launch.launch(main)
