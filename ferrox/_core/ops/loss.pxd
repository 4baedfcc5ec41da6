# What all losses share.  See loss.pyx.
cdef str legacy_reduction(object size_average, object reduce, str reduction)
