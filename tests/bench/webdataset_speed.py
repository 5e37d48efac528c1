"""How fast Python reads the same shards: webdataset and Pillow, one worker process per core, each doing what the loader
does for a sample: read, parse .json and .txt, decode, cut the middle square, bicubic to 256x256, to a numpy array. Nothing
is sent between the processes, which favours Python. Prints "pictures/s, pictures per second of processor time".

    python3 tests/bench/webdataset_speed.py SECONDS WORKERS SHARD...
"""
import multiprocessing
import resource
import sys
import time

import numpy as np
import webdataset as wds


def to_array(sample):
    image, facts, caption = sample
    width, height = image.size
    side = min(width, height)
    left, top = (width - side) // 2, (height - side) // 2
    image = image.crop((left, top, left + side, top + side)).resize((256, 256), 3)
    return np.asarray(image), facts, caption


def work(seconds, shards, start, results):
    dataset = wds.WebDataset(shards, shardshuffle=False, empty_check=False, nodesplitter=None, workersplitter=None)
    dataset = dataset.decode("pilrgb").to_tuple("jpg", "json", "txt").map(to_array)
    samples = iter(dataset.repeat())
    next(samples)
    start.wait()
    count, began = 0, time.monotonic()
    cpu = resource.getrusage(resource.RUSAGE_SELF)
    while time.monotonic() - began < seconds:
        next(samples)
        count += 1
    used = resource.getrusage(resource.RUSAGE_SELF)
    results.put((count, time.monotonic() - began,
                 used.ru_utime + used.ru_stime - cpu.ru_utime - cpu.ru_stime))


def main():
    seconds, workers, shards = float(sys.argv[1]), int(sys.argv[2]), sorted(sys.argv[3:])
    context = multiprocessing.get_context("fork")
    start, results = context.Barrier(workers), context.Queue()
    processes = []
    for i in range(workers):
        turned = shards[i % len(shards):] + shards[:i % len(shards)]
        processes.append(context.Process(target=work, args=(seconds, turned, start, results)))
        processes[-1].start()
    done = [results.get() for _ in processes]
    for process in processes:
        process.join()
    rate = sum(count / took for count, took, _ in done)
    print(f"{rate:.1f} {sum(d[0] for d in done) / sum(d[2] for d in done):.1f}")


if __name__ == "__main__":
    main()
