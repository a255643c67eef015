"""Five tasks on images of rooms (Standley et al. 2020; Fifty et al. 2021, Figure 2 right).

    python -m experiments.taskonomy --data_dir=DIR --method=exhaustive --smaller=0.5 --budget=2.5

trains a network for every set of the five tasks, and single tasks on an encoder of half the cost
too, as Standley et al. do, and selects the networks that cost 2.5 standard network times together.
The paper's total test losses (Table 7; `python -m experiments.network_selection` computes its rows
from its published networks, but for GradNorm, Sener et al. and networks of other sizes):

    budget          1    1.5      2    2.5      3      4      5
    optimal     0.503  0.461  0.452  0.446  0.442  0.436  0.435
    HOA         0.503  0.461  0.455  0.451  0.449  0.444  0.442
    ESA         0.503  0.487  0.467  0.461  0.457  0.451  0.447
    all in one  0.503         0.492  0.487         0.488

    python -m experiments.taskonomy --data_dir=DIR --budget=2

groups them by TAG from one network, as Fifty et al. do; --network=xception_plain is their network,
that of the later code of Standley et al. (Appendix B.7: decoders of four transposed and four plain
convolutions). One network for all five tasks took them 146 hours on a Tesla V100.

DIR holds the images, in one of the layouts that `tag_jax.data.taskonomy` knows, and the files
train_buildings.txt, validation_buildings.txt and test_buildings.txt with a building a line; or
train_models.txt, val_models.txt and test_models.txt, as Fifty et al. publish theirs (tag/taskonomy
in github.com/google-research/google-research). In validation and test 1,000 images of a building
count, as in the code of both papers; --images_per_building=0 takes all.

The network is the 17-layer Xception at 256 x 256 with a decoder a task; --network=resnet18_maps
takes ResNet-18 (Table 1), --size=0.6 or 3 one of that cost, --dtype=bfloat16 half precision.
Trained on the mean of the losses, SGD with momentum at 0.2, halved when the training loss stops
decreasing; validation after every 20 % of the data. Tasks are compared by their errors relative to
the spread of labels (segmentation: 1 - mIoU), not by the losses of the paper. (Nothing here has
been run on Taskonomy itself.)
"""

from absl import flags

from experiments import paper
from tag_jax.launchers import launch

flags.adopt_module_key_flags(paper)


def main():
    paper.run('taskonomy')


if __name__ == '__main__':
    launch.launch(main)
