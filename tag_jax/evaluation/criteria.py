"""The criteria that networks can be chosen by."""

# The lower the better: the error of a task in percent; its mean
# loss as it is trained; that in percent of the loss of the best constant answer.
CRITERIA = ('error', 'loss', 'relative_loss')
RELATIVE_LOSS = CRITERIA[2]
