"""The fast engine on graphics cards, through CuPy: one training step as a whole, captured as a graph.

The algorithm is that of `tinygan.fast`: convolution by frequencies, D once for real pictures and
fakes together. What differs is what a card is good and bad at: it multiplies large matrices at great
speed, moves memory fast, and loses time with every small call.

    blas.py         matrix products by cuBLAS, on a handle that a CUDA graph may capture
    frequencies.py  convolution as such products, and two kernels
    kernels.cu      everything between the products, from the images' bytes to Adam: CUDA source
    kernels.py      compiles it, launches its kernels with checked arguments
    buffers.py      sizes, and the card's memory, planned before any is taken
    gan.py          the step
    trainer.py      a run: data, random numbers, graphs
"""
