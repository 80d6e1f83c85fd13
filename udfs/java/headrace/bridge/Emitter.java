package headrace.bridge;

import java.util.ArrayList;
import java.util.List;
import java.util.OptionalDouble;
import java.util.OptionalInt;
import java.util.OptionalLong;
import java.util.stream.Collectors;
import org.apache.spark.sql.catalyst.expressions.Expression;
import org.apache.spark.sql.catalyst.expressions.codegen.CodeBlock;
import org.apache.spark.sql.catalyst.expressions.codegen.CodeGenerator;
import org.apache.spark.sql.catalyst.expressions.codegen.CodegenContext;
import org.apache.spark.sql.catalyst.expressions.codegen.ExprCode;
import org.apache.spark.sql.types.BinaryType;
import org.apache.spark.sql.types.DataType;
import org.apache.spark.sql.types.StringType;
import scala.jdk.javaapi.CollectionConverters;

/** Writes the Java text of one call for Spark's generated classes. */
final class Emitter {
    private static final String UTF8 = "org.apache.spark.unsafe.types.UTF8String";

    private final Invocation call;
    private final Bound bound;
    private final CodegenContext context;
    private final ExprCode code;
    private final List<ExprCode> inputs = new ArrayList<>();
    private final String boundField;

    Emitter(Invocation call, CodegenContext context, ExprCode code) {
        this.call = call;
        this.bound = call.bound();
        this.context = context;
        this.code = code;
        call.arguments().forEach(argument -> inputs.add(argument.genCode(context)));
        boundField = context.addReferenceObj("bound", bound, Bound.class.getName());
    }

    ExprCode emit() {
        DataType type = call.dataType();
        String javaType = CodeGenerator.javaType(type);
        StringBuilder text = new StringBuilder();
        inputs.forEach(input -> text.append(input.code()).append('\n'));
        text.append("boolean ").append(code.isNull()).append(" = true;\n");
        text.append(javaType).append(' ').append(code.value()).append(" = ")
                .append(CodeGenerator.defaultValue(type, false)).append(";\n");
        String cause = context.freshName("cause");
        if (call.tally() != null) {
            text.append(causeIs(cause, Cause.DATA, Cause.class.getName() + " "));
        }
        text.append("if (").append(requiredThere()).append(") {\ntry {\n")
                .append(body(cause))
                .append("} catch (Throwable error) {\n")
                .append(code.isNull()).append(" = true;\n")
                .append(boundField).append(".failed(error, ").append(values()).append(", ").append(call.failing())
                .append(");\n")
                .append(call.tally() == null ? "" : causeIs(cause, Cause.FAILURE, ""))
                .append("}\n}\n");
        if (call.tally() != null) {
            text.append(count(cause));
        }
        return code.copy(block(text.toString()), code.isNull(), code.value());
    }

    private static CodeBlock block(String text) {
        return new CodeBlock(
                CollectionConverters.<String>asScala(List.of(text)).toIndexedSeq(),
                CollectionConverters.<org.apache.spark.sql.catalyst.expressions.codegen.JavaCode>asScala(List.of())
                        .toIndexedSeq());
    }

    private static String causeIs(String variable, Cause cause, String declared) {
        return declared + variable + " = " + Cause.class.getName() + "." + cause.name() + ";\n";
    }

    private String requiredThere() {
        List<String> there = new ArrayList<>();
        for (int i = 0; i < inputs.size(); i++) {
            if (!bound.shape(i).isOptional()) {
                there.add("!" + inputs.get(i).isNull());
            }
        }
        return there.isEmpty() ? "true" : String.join(" && ", there);
    }

    private String body(String cause) {
        StringBuilder text = new StringBuilder();
        List<String> names = new ArrayList<>();
        List<String> partial = new ArrayList<>();
        for (int i = 0; i < inputs.size(); i++) {
            String name = context.freshName("argument");
            names.add(name);
            text.append(typeName(bound.shape(i))).append(' ').append(name).append(" = ").append(argument(i)).append(";\n");
            if (bound.reader(i).partial() && !bound.shape(i).isOptional()) {
                partial.add(name + " != null");
            }
        }
        String result = context.freshName("result");
        Shape shape = bound.signature().result();
        if (!partial.isEmpty()) {
            text.append("if (").append(String.join(" && ", partial)).append(") {\n");
        }
        text.append(typeName(shape)).append(' ').append(result).append(" = (").append(typeName(shape)).append(") ")
                .append(staticCall(names)).append(";\n").append(result(shape, result));
        if (call.tally() != null) {
            text.append("if (!").append(code.isNull()).append(") ").append(causeIs(cause, Cause.NONE, ""))
                    .append("else if (").append(someThere()).append(") ").append(causeIs(cause, Cause.ALGORITHM, ""));
        }
        return text.append(partial.isEmpty() ? "" : "}\n").toString();
    }

    /** A Java type as generated code names it: erased, and public by the check at registration. */
    private static String typeName(Shape shape) {
        return shape.raw().getCanonicalName();
    }

    private String staticCall(List<String> names) {
        Class<?> owner = bound.signature().method().getDeclaringClass();
        List<String> passed = new ArrayList<>(names);
        if (bound.spread()) {
            int fixed = bound.signature().parameters().size() - 1;
            Shape tail = bound.signature().parameters().get(fixed);
            List<String> many = passed.subList(fixed, passed.size());
            String array = "new " + typeName(tail) + " {" + String.join(", ", many) + "}";
            passed = new ArrayList<>(passed.subList(0, fixed));
            passed.add(array);
        }
        return owner.getCanonicalName() + "." + bound.routine().methodName() + "(" + String.join(", ", passed) + ")";
    }

    private String argument(int i) {
        Shape shape = bound.shape(i);
        ExprCode input = inputs.get(i);
        String value = input.value().toString();
        if (!shape.isOptional()) {
            return plain(shape, i, value);
        }
        String type = typeName(shape);
        String inner = shape.part().kind() == Shape.Kind.SCALAR ? plain(shape.part(), i, value) : null;
        String there = inner != null && !bound.reader(i).partial()
                ? type + ".of(" + (shape.part().raw().isPrimitive() ? inner : "(Object) " + boxed(shape.part(), inner)) + ")"
                : "(" + type + ") " + reader(i) + ".read(" + box(i, value) + ")";
        return "(" + input.isNull() + " ? (" + type + ") " + reader(i) + ".absent() : " + there + ")";
    }

    private static String boxed(Shape shape, String inner) {
        return "(" + typeName(shape) + ") " + inner;
    }

    /** A value that is not null: inline where that is one conversion, by its reader otherwise. */
    private String plain(Shape shape, int i, String value) {
        DataType type = bound.reader(i).sql;
        if (shape.raw().isPrimitive() && CodeGenerator.isPrimitiveType(type)) {
            return "((" + shape.raw().getName() + ") " + value + ")";
        }
        if (shape.raw() == String.class && type instanceof StringType) {
            return value + ".toString()";
        }
        if (type instanceof BinaryType) {
            return value;
        }
        String read = bound.shape(i).isOptional() ? "" : reader(i) + ".read(" + box(i, value) + ")";
        if (read.isEmpty()) {
            return null;
        }
        if (shape.raw().isPrimitive()) {
            String wrapper = wrapper(shape.raw());
            return "((" + wrapper + ") " + read + ")." + shape.raw().getName() + "Value()";
        }
        return "(" + typeName(shape) + ") " + read;
    }

    private static String wrapper(Class<?> primitive) {
        return java.lang.invoke.MethodType.methodType(primitive).wrap().returnType().getName();
    }

    private String box(int i, String value) {
        DataType type = bound.reader(i).sql;
        return CodeGenerator.isPrimitiveType(type) ? CodeGenerator.boxedType(type) + ".valueOf(" + value + ")" : value;
    }

    private final List<String> readers = new ArrayList<>();

    private String reader(int i) {
        while (readers.size() <= i) {
            readers.add(null);
        }
        if (readers.get(i) == null) {
            readers.set(i, field(Reader.class, "reader", ".reader(" + i + ")"));
        }
        return readers.get(i);
    }

    /** A field of the generated class, set once from the bound function. */
    private String field(Class<?> type, String name, String getter) {
        return context.addMutableState(
                type.getName(), name, variable -> variable + " = " + boundField + getter + ";", true, true);
    }

    private String result(Shape shape, String result) {
        Class<?> raw = shape.raw();
        if (raw.isPrimitive()) {
            return set(result);
        }
        if (raw == OptionalInt.class || raw == OptionalLong.class || raw == OptionalDouble.class) {
            String type = shape.part().raw().getName();
            return "if (" + result + ".isPresent()) {\n"
                    + set(result + ".getAs" + type.substring(0, 1).toUpperCase() + type.substring(1) + "()") + "}\n";
        }
        if (shape.isOptional() && shape.part().raw() == String.class) {
            return "if (" + result + ".isPresent()) {\n" + set(UTF8 + ".fromString((String) " + result + ".get())") + "}\n";
        }
        String written = context.freshName("written");
        DataType type = call.dataType();
        String boxed = CodeGenerator.boxedType(type);
        String value = "(" + boxed + ") " + written;
        String unboxed = CodeGenerator.isPrimitiveType(type)
                ? "(" + value + ")." + CodeGenerator.javaType(type) + "Value()" : value;
        return "Object " + written + " = " + field(Writer.class, "writer", ".writer()") + ".write(" + result + ");\n"
                + "if (" + written + " != null) {\n" + set(unboxed) + "}\n";
    }

    private String set(String value) {
        return code.value() + " = " + value + ";\n" + code.isNull() + " = false;\n";
    }

    /** The arguments as an array of objects, for messages. */
    private String values() {
        List<String> values = new ArrayList<>();
        for (int i = 0; i < inputs.size(); i++) {
            ExprCode input = inputs.get(i);
            values.add(input.isNull() + " ? null : (Object) " + box(i, input.value().toString()));
        }
        return "new Object[] {" + String.join(", ", values) + "}";
    }

    private String someThere() {
        List<String> there = new ArrayList<>();
        for (int i = 0; i < inputs.size(); i++) {
            if (!call.arguments().get(i).foldable()) {
                there.add("!" + inputs.get(i).isNull());
            }
        }
        return there.isEmpty() ? "false" : String.join(" || ", there);
    }

    private String count(String cause) {
        String tally = context.addReferenceObj("tally", call.tally(), Tally.class.getName());
        String none = Cause.class.getName() + "." + Cause.NONE.name();
        String found = "if (" + cause + " == " + none + ") {\n" + tally + ".found();\n} else {\n";
        Expression key = call.key();
        if (key == null) {
            return found + tally + ".count(" + cause + ", null);\n}\n";
        }
        ExprCode keyCode = key.genCode(context);
        String boxed = CodeGenerator.isPrimitiveType(key.dataType())
                ? CodeGenerator.boxedType(key.dataType()) + ".valueOf(" + keyCode.value() + ")" : keyCode.value().toString();
        return found + keyCode.code() + "\n" + tally + ".count(" + cause + ", "
                + keyCode.isNull() + " ? null : (Object) " + boxed + ");\n}\n";
    }
}
