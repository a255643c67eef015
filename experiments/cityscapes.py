"""Street scenes with MGDA-UB and its like (Sener & Koltun 2018, Table 4 and Figure 4).

    python -m experiments.cityscapes --data_dir=DIR --compare

where DIR holds leftImg8bit, gtFine and disparity as unpacked. Segmentation into 19 classes, offsets
to the centres of instances, and disparity, at 256 x 512: ResNet-50 with a pyramid pooling decoder a
task, 250 epochs of batches of 8, SGD with momentum, halved every 30 epochs; 275 training images are
held out for validation, on which the learning rate of each way is chosen, and the official
validation images are the test split. Then networks train again with the chosen rates on all
training images, to the last step, and these are tested (Supplement C.3; --noretrain tests those
that were chosen among). The grid search has 21 ways to share 1 among three tasks. Its results:

                      mIoU (%)  instance error (px)  disparity error (px)
    single task          60.68                11.34                  2.78
    uniform scaling      54.59                10.38                  2.96
    uncertainty          64.21                11.54                  2.65
    GradNorm             64.81                11.31                  2.57
    MGDA-UB              66.63                10.25                  2.54

and its training time, on a Titan Xp: 23.3 hours with the bound, 38.6 without (Table 2). The encoder
of the paper begins with weights from ImageNet, which --pretrained=FILE reads; without it expect
less. Errors on the terminal are relative ones (docs of `tag_jax.objectives`), beside the time that
a network takes; report.html and results.json have natural units too (the instance error in pixels
of an image 512 wide: mae_in_pixels; `data.depth_from_disparity` makes metres of disparity), and
accuracies.png has the profiles of Figure 4.
Without --compare it is the main job: which of the three tasks should train together. (Nothing here
has been run on Cityscapes itself.)
"""

from absl import flags

from experiments import paper
from tag_jax.launchers import launch

flags.adopt_module_key_flags(paper)


def main():
    paper.run('cityscapes', paper.SENER_RATES, retrain=True)


if __name__ == '__main__':
    launch.launch(main)
