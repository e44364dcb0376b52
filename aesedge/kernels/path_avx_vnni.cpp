// AVX-VNNI: the AVX2 path with vpdpbusd.
#include "path_avx2.cpp"
