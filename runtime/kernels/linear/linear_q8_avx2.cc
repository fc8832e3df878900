#include "linear/linear_q8_portable.cc"
