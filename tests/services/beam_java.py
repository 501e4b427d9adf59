"""What the Java side of Beam needs in tests: job servers that listen on loopback only.

Beam's job servers listen on every interface, whatever they are told. They send their whole class
path to the cluster with each job, though the cluster has the same jars. Two small classes
put before their jars mend both.
"""

from __future__ import annotations

import subprocess
from pathlib import Path

from tests.services.install import Unavailable, package, tool

_LAUNCHER = """
package tests;

import VENDOR.io.grpc.BindableService;
import VENDOR.io.grpc.Server;
import VENDOR.io.grpc.netty.NettyServerBuilder;
import java.lang.reflect.Field;
import java.net.InetAddress;
import java.net.InetSocketAddress;
import java.util.List;
import org.apache.beam.model.pipeline.v1.Endpoints.ApiServiceDescriptor;
import org.apache.beam.runners.jobsubmission.JobServerDriver;
import org.apache.beam.sdk.fn.server.ServerFactory;

public class LoopbackJobServer {
  static class Loopback extends ServerFactory {
    @Override
    public Server allocateAddressAndCreate(
        List<BindableService> services, ApiServiceDescriptor.Builder descriptor)
        throws java.io.IOException {
      Server server = listen(services, 0);
      descriptor.setUrl("127.0.0.1:" + server.getPort());
      return server;
    }

    @Override
    public Server create(List<BindableService> services, ApiServiceDescriptor descriptor)
        throws java.io.IOException {
      String url = descriptor.getUrl();
      return listen(services, Integer.parseInt(url.substring(url.lastIndexOf(':') + 1)));
    }

    private Server listen(List<BindableService> services, int port) throws java.io.IOException {
      NettyServerBuilder builder =
          NettyServerBuilder.forAddress(
                  new InetSocketAddress(InetAddress.getLoopbackAddress(), port))
              .maxInboundMessageSize(Integer.MAX_VALUE)
              .permitKeepAliveWithoutCalls(true);
      services.forEach(builder::addService);
      return builder.build().start();
    }
  }

  public static void main(String[] args) throws Exception {
    Class<?> driver = Class.forName(System.getProperty("tests.driver"));
    Object server = driver.getMethod("fromParams", String[].class).invoke(null, (Object) args);
    for (String name : new String[] {"jobServerFactory", "artifactServerFactory"}) {
      Field field = JobServerDriver.class.getDeclaredField(name);
      field.setAccessible(true);
      field.set(server, new Loopback());
    }
    ((Runnable) server).run();
  }
}
"""

_NO_STAGING = """
package org.apache.beam.sdk.util.construction.resources;

public class ClasspathScanningResourcesDetector implements PipelineResourcesDetector {
  public ClasspathScanningResourcesDetector(io.github.classgraph.ClassGraph graph) {}

  @Override
  public java.util.List<String> detect(ClassLoader loader) {
    return java.util.Collections.emptyList();
  }
}
"""

_OPENED = [
    *("lang", "lang.invoke", "lang.reflect", "io", "net", "nio", "text", "time", "util"),
    *("util.concurrent", "util.concurrent.atomic", "util.concurrent.locks"),
]
_OPENED_SUN = ["nio.ch", "nio.cs", "security.action", "util.calendar"]
_NAMES = [*(f"java.{name}" for name in _OPENED), *(f"sun.{name}" for name in _OPENED_SUN)]
OPENS = [f"--add-opens=java.base/{name}=ALL-UNNAMED" for name in _NAMES]
"""What Flink and Spark look into, which newer JDKs keep closed."""
QUICK = [
    "-XX:TieredStopAtLevel=1",
    "-XX:+UnlockDiagnosticVMOptions",
    "-XX:-BytecodeVerificationRemote",
]
"""Options of a JVM that starts quickly and need not be fast for long."""
SMALL = ["-XX:+UseSerialGC", *QUICK, "-Djava.net.preferIPv4Stack=true"]
"""Options of a JVM that lives for minutes beside others."""


def job_server_classes(jars: Path) -> Path:
    """The folder of the two classes, compiled against the jars of a job server."""
    return package(f"{jars.name}-classes", lambda folder: _compile(folder, jars))


def job_server(java: str, jars: Path, driver: str) -> list[str]:
    """The beginning of the command of a job server; options of the JVM may be put before it ends.

    The caller adds the arguments of `driver`, the class of the server.
    """
    path = f"{job_server_classes(jars)}:{jars}/*"
    return [java, *OPENS, *SMALL, f"-Dtests.driver={driver}", "-cp", path]


JOB_SERVER = "tests.LoopbackJobServer"


def _compile(folder: Path, jars: Path) -> None:
    vendored = sorted(jars.glob("beam-vendor-grpc-*.jar"))
    if not vendored:
        raise Unavailable(f"{jars} has no beam-vendor-grpc")
    version = vendored[-1].name.split("-")[3].replace("_", "p")
    launcher = _LAUNCHER.replace("VENDOR", f"org.apache.beam.vendor.grpc.v{version}")
    sources = {"LoopbackJobServer": launcher, "ClasspathScanningResourcesDetector": _NO_STAGING}
    for name, text in sources.items():
        (folder / f"{name}.java").write_text(text)
    names = [f"{name}.java" for name in sources]
    compiler = [tool("javac", "install a JDK 17 or newer"), "-nowarn", "-cp", f"{jars}/*"]
    done = subprocess.run(
        [*compiler, "-d", ".", *names], cwd=folder, capture_output=True, text=True, check=False
    )
    if done.returncode:
        raise Unavailable(f"javac failed: {done.stderr[-500:]}")
