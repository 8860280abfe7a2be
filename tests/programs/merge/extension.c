/* An extension module whose function calls another one back. */
#define PY_SSIZE_T_CLEAN
#include <Python.h>

static PyObject *calls_back(PyObject *module, PyObject *function)
{
    (void)module;
    PyObject *result = PyObject_CallObject(function, NULL);
    if (result == NULL)
        return NULL;
    Py_DECREF(result);
    Py_RETURN_NONE;
}

static PyMethodDef methods[] = {
    {"calls_back", calls_back, METH_O, "Calls its argument."},
    {NULL, NULL, 0, NULL},
};

static struct PyModuleDef definition = {
    PyModuleDef_HEAD_INIT, "extension", NULL, 0, methods, NULL, NULL, NULL, NULL,
};

PyMODINIT_FUNC PyInit_extension(void)
{
    return PyModule_Create(&definition);
}
