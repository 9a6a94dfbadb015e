"""Host bound, standard library only: the step is a pure Python loop.

A matrix product written with lists: the interpreter takes all the time.
"""

from step_clock import StepClock, seconds_wanted


def multiply(left, right):
    size = len(left)
    result = [[0.0] * size for _ in range(size)]
    for i in range(size):
        for j in range(size):
            total = 0.0
            for k in range(size):
                total += left[i][k] * right[k][j]
            result[i][j] = total
    return result


def normalise(matrix):
    largest = max(max(abs(value) for value in row) for row in matrix)
    return [[value / largest for value in row] for row in matrix]


def main():
    arguments = seconds_wanted(__doc__)
    size = 96
    weights = [[((i * 31 + j * 17) % 13) / 13.0 for j in range(size)] for i in range(size)]
    state = weights
    clock = StepClock(arguments.seconds)
    while clock.running():
        state = normalise(multiply(state, weights))
        clock.tick()


if __name__ == "__main__":
    main()
