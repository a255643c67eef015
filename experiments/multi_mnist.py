"""Two digits in one image with MGDA-UB and its like (Sener & Koltun 2018, Table 3 and Figure 3).

    python -m experiments.multi_mnist --data_dir=DIR --compare

where DIR holds the four files of MNIST, or of anything in its format (Fashion-MNIST). LeNet, 100
epochs of batches of 256, SGD with momentum, halved every 30 epochs, learning rates chosen on
validation among the paper's six, for each way of weighting. The paper's accuracies, in percent:

                      left    right
    single task       97.23   95.90
    uniform scaling   96.46   94.99
    uncertainty       96.47   95.29
    GradNorm          96.27   94.84
    MGDA-UB           97.26   95.90

Its Kendall et al. 2018 is 'uncertainty' here, its uniform scaling 'equal'. One way takes six
learning rates times --seeds networks of 19,500 steps. Without --compare it is the main job: whether
the two tasks should share a network. (Nothing here has been run
on MNIST itself; docs/results.md has three epochs on Fashion-MNIST.)
"""

from absl import flags

from experiments import paper
from tag_jax.launchers import launch

flags.adopt_module_key_flags(paper)


def main():
    paper.run('multi_mnist', paper.SENER_RATES)


if __name__ == '__main__':
    launch.launch(main)
